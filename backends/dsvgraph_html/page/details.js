// What is told of a line: beside the pointer for a moment, in the panel while it is selected.

import { owner, named, parts, weights } from './model.js';

export const panel = document.getElementById('panel');
const tip = document.getElementById('tip');

export function html(name, attributes = {}, ...children) {
  const found = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) found.addEventListener(key.slice(2), value);
    else found.setAttribute(key, value);
  }
  found.append(...children.filter((child) => child !== null && child !== ''));
  return found;
}

// A path breaks between its segments.
const broken = (path) => path.split(/(?<=\.)/).flatMap((part, i) => [i ? html('wbr') : '', html('span', {}, part)]);

function rows(name, found) {
  if (!found?.length) return '';
  const cells = found.map((row) => html('tr', {}, ...row.map((text, i) => html(i ? 'td' : 'th', {}, text))));
  return html('section', { class: name === 'Cost' || name === 'Term' ? '' : 'code' }, html('h3', {}, name), html('table', {}, ...cells));
}

function owned(one) {
  if (!one.card.weights?.length) return '';
  const paths = weights(one);
  const found = one.card.weights.map(([, shape, count], i) => [
    html('tr', {}, html('th', { colspan: 2, class: 'broken' }, ...broken(named({ path: paths[i] })))),
    html('tr', {}, html('th', {}, shape), html('td', {}, count)),
  ]);
  return html('section', { class: 'code' }, html('h3', {}, 'Weights'), html('table', {}, ...found.flat()));
}

function facts(spot, path) {
  return [
    title(spot.card),
    path,
    ...about(spot),
    ...parts(spot).flatMap((part) => [html('hr'), title(part.card), pathOf(part), ...about(part)]),
  ];
}

const pathOf = (one) => html('p', { class: 'path broken' }, ...broken(named(one)));

const title = (card) =>
  html(
    'header',
    {},
    card.role ? html('i', { class: `dot ${card.role}` }) : '',
    html('b', {}, card.name),
    card.copies ? html('span', { class: 'badge' }, card.copies) : '',
  );

function about(one) {
  const { card } = one;
  const kind = card.does && card.does !== card.callee ? `${card.callee} · ${card.does}` : card.callee;
  return [
    html('p', { class: 'kind' }, kind),
    rows('Term', card.term),
    rows('Cost', card.costs),
    rows('In', card.in),
    rows('Out', card.out),
    owned(one),
    rows('Shared weights', card.tied),
    card.line ? html('section', {}, html('h3', {}, card.line), html('code', {}, card.yaml ?? '')) : '',
  ];
}

// Beside the box, where there is room.
export function hover(spot, box) {
  tip.hidden = !spot;
  if (!spot) return;
  tip.replaceChildren(...facts(spot, named(spot) === spot.card.name ? '' : pathOf(spot)).filter(Boolean));
  const { width, height } = tip.getBoundingClientRect();
  const left = box.left - 14 - width;
  const right = box.right + 14;
  const aside = right + width < innerWidth - 8 ? right : left > 8 ? left : null;
  const below = box.bottom + 14 + height < innerHeight - 8 ? box.bottom + 14 : box.top - 14 - height;
  tip.style.left = `${aside ?? Math.max(8, Math.min(innerWidth - width - 8, box.left))}px`;
  tip.style.top = `${Math.max(8, aside === null ? below : Math.min(innerHeight - height - 8, box.top))}px`;
}

export function select(spot, actions) {
  panel.hidden = !spot;
  if (!spot) return;
  const source = owner(spot);
  const button = (text, key, onclick) =>
    html('button', { type: 'button', onclick }, text, key ? html('kbd', {}, key) : '');
  const copy = html(
    'button',
    { type: 'button', class: 'path broken', title: 'Copy the path', onclick: actions.copy },
    ...broken(named(spot)),
  );
  const opened = actions.isOpen(spot);
  panel.replaceChildren(
    html('button', { type: 'button', class: 'close', 'aria-label': 'Close', onclick: actions.close }, '×'),
    ...facts(spot, copy),
    html(
      'div',
      { class: 'actions' },
      spot.card.opens ? button(opened ? 'Close block' : 'Open block', 'Enter', actions.toggle) : '',
      source ? button('Go to the owner', 'o', actions.owner) : '',
      button('Copy path', 'c', actions.copy),
    ),
  );
  panel.scrollTop = 0;
}

// -- messages -------------------------------------------------------------------------------------

const toast = document.getElementById('toast');
let timer = 0;

// Says it to everybody; `quiet` is for those who hear the page and do not see it.
export function say(text, quiet = false) {
  toast.textContent = text;
  toast.classList.toggle('on', !quiet);
  clearTimeout(timer);
  timer = setTimeout(() => toast.classList.remove('on'), 1600);
}

export async function copy(spot) {
  const text = named(spot);
  try {
    await navigator.clipboard.writeText(text);
    say(`Copied ${text}`);
  } catch {
    say(byHand(text) ? `Copied ${text}` : `The browser lets nothing be copied: ${text}`);
  }
}

// Where the clipboard needs a leave that the page has not: a selection, copied as by the reader.
function byHand(text) {
  const before = document.activeElement;
  const area = html('textarea', { readonly: '', class: 'unseen' });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  before?.focus({ preventScroll: true });
  return done;
}
