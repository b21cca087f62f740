// Search: every word must stand in the path, the name, the kind, a weight or the line of the spec.

import { lines, named, names } from './model.js';
import { html } from './details.js';

const MOST = 12;
export const input = document.getElementById('search');
const list = document.getElementById('found');
let found = [];
let at = 0;

const index = lines.map((group) => {
  const [{ path, card }] = group;
  const inner = (card.parts ?? []).map((part) => `${part.name} ${part.callee}`);
  const text = [path, card.name, card.callee, card.does, card.line, ...inner, ...names(group[0])]
    .join(' ')
    .toLowerCase();
  return { group, path, text };
});

const rank = ({ path, group }, words) => {
  const last = path.split('.').at(-1).toLowerCase();
  const name = group[0].card.name.toLowerCase();
  return (
    (words.some((w) => name === w || last === w) ? 0 : name.startsWith(words[0]) ? 1 : 2) * 100 + path.split('.').length
  );
};

function matches(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const fit = index.filter((entry) => words.every((word) => entry.text.includes(word)));
  return fit.sort((a, b) => rank(a, words) - rank(b, words)).slice(0, MOST);
}

function draw(choose) {
  list.hidden = !found.length && !input.value.trim();
  list.replaceChildren(
    ...found.map(({ group: [spot] }, i) =>
      html(
        'li',
        {
          role: 'option',
          id: `found-${i}`,
          'aria-selected': i === at,
          onpointerdown: (event) => {
            event.preventDefault();
            pick(i, choose);
          },
        },
        html('i', { class: `dot ${spot.card.role}` }),
        html('b', {}, spot.card.name),
        html('span', {}, named(spot.path)),
      ),
    ),
  );
  if (!found.length) list.replaceChildren(html('li', { class: 'none' }, 'Nothing found'));
  input.setAttribute('aria-activedescendant', found.length ? `found-${at}` : '');
  input.setAttribute('aria-expanded', !list.hidden);
}

function pick(i, choose) {
  if (!found[i]) return;
  choose(found[i].group);
  close();
}

export function close() {
  input.value = '';
  found = [];
  list.hidden = true;
  input.blur();
}

export function start(choose) {
  input.addEventListener('input', () => {
    found = matches(input.value);
    at = 0;
    draw(choose);
  });
  input.addEventListener('blur', () => {
    list.hidden = true;
  });
  input.addEventListener('keydown', (event) => {
    event.stopPropagation();
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && found.length) {
      at = (at + step + found.length) % found.length;
      draw(choose);
      event.preventDefault();
    }
    if (event.key === 'Enter') pick(at, choose);
    if (event.key === 'Escape') close();
  });
}
