// What is told of a line: beside the pointer for a moment, in the panel while it is selected.

import { owner, named, parts } from './model.js';

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

const pathOf = (spot) => named(spot.path) || spot.card.name;

function rows(name, found) {
  if (!found?.length) return '';
  const cells = found.map((row) => html('tr', {}, ...row.map((text, i) => html(i ? 'td' : 'th', {}, text))));
  return html('section', { class: name === 'Cost' ? '' : 'code' }, html('h3', {}, name), html('table', {}, ...cells));
}

function facts(spot, path) {
  return [
    title(spot.card),
    path,
    ...about(spot),
    ...parts(spot).flatMap((part) => [
      html('hr'),
      title(part.card),
      html('p', { class: 'path' }, pathOf(part)),
      ...about(part),
    ]),
  ];
}

const title = (card) =>
  html(
    'header',
    {},
    card.role ? html('i', { class: `dot ${card.role}` }) : '',
    html('b', {}, card.name),
    card.copies ? html('span', { class: 'badge' }, card.copies) : '',
  );

function about({ card, path }) {
  const kind = card.does && card.does !== card.callee ? `${card.callee} · ${card.does}` : card.callee;
  const weights = card.weights?.map(([name, shape, count]) => [path ? `${path}.${name}` : name, shape, count]);
  return [
    html('p', { class: 'kind' }, kind),
    rows('Cost', card.costs),
    rows('In', card.in),
    rows('Out', card.out),
    rows('Weights', weights),
    rows('Shared weights', card.tied),
    card.line ? html('section', {}, html('h3', {}, card.line), html('code', {}, card.yaml ?? '')) : '',
  ];
}

export function hover(spot, box) {
  tip.hidden = !spot;
  if (!spot) return;
  tip.replaceChildren(...facts(spot, html('p', { class: 'path' }, pathOf(spot))));
  const { width, height } = tip.getBoundingClientRect();
  const right = box.right + 14 + width < innerWidth - 8;
  tip.style.left = `${Math.max(8, right ? box.right + 14 : box.left - 14 - width)}px`;
  tip.style.top = `${Math.max(8, Math.min(innerHeight - height - 8, box.top))}px`;
}

export function select(spot, actions) {
  panel.hidden = !spot;
  if (!spot) return;
  const source = owner(spot);
  const button = (text, key, onclick) =>
    html('button', { type: 'button', onclick }, text, key ? html('kbd', {}, key) : '');
  const copy = html(
    'button',
    { type: 'button', class: 'path', title: 'Copy the path', onclick: actions.copy },
    pathOf(spot),
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
}

const toast = document.getElementById('toast');
let timer = 0;

export function say(text) {
  toast.textContent = text;
  toast.classList.add('on');
  clearTimeout(timer);
  timer = setTimeout(() => toast.classList.remove('on'), 1600);
}

export async function copy(spot) {
  const text = pathOf(spot);
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    fallback(text);
  }
  say(`Copied ${text}`);
}

function fallback(text) {
  const area = html('textarea', { readonly: '' });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand('copy');
  area.remove();
}
