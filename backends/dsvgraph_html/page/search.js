// Search: every word must stand in the path, the name, the kind, a weight or the YAML of a line.

import { lines, named, names, parts, within } from './model.js';
import { html } from './details.js';

const MOST = 12;
export const input = document.getElementById('search');
const list = document.getElementById('found');
let found = [];
let at = 0;

let entries = null;
function index() {
  entries ??= lines().map((group) => {
    const [spot] = group;
    const cards = [spot, ...parts(spot)].map(({ card }) => card);
    const paths = names(spot).map((path) => path.map((part) => ({ ...part, text: part.text.toLowerCase() })));
    const words = paths.map((path) => path.map(({ text }) => text).join('.'));
    return {
      group,
      names: [...words, ...cards.flatMap((card) => [card.name, card.callee])].join(' ').toLowerCase(),
      text: cards.flatMap((card) => [card.does, card.role, card.line, card.yaml]).join(' ').toLowerCase(),
      paths,
    };
  });
  return entries;
}

const numbered = /\.\d|^\d+\./; // a path that may name one of many copies

function fits({ names: told, text, paths }, word) {
  if (told.includes(word) || text.includes(word)) return true;
  return numbered.test(word) && paths.some((path) => within(word.split('.'), path));
}

// Lower is better: named so, begins so, is called so, says so.
function rank({ group: [{ card, path }], names: told }, words) {
  const name = card.name.toLowerCase();
  const last = path.at(-1)?.text.toLowerCase();
  const close = words.some((word) => [name, last, card.callee].includes(word)) ? 0 : name.startsWith(words[0]) ? 1 : 2;
  return (close === 2 && !words.every((word) => told.includes(word)) ? 3 : close) * 100 + path.length;
}

function matches(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const fit = index().filter((entry) => words.every((word) => fits(entry, word)));
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
        html('span', {}, named(spot)),
      ),
    ),
  );
  if (!found.length) list.replaceChildren(html('li', { class: 'none', role: 'option', 'aria-disabled': true }, 'Nothing found'));
  list.children[at]?.scrollIntoView({ block: 'nearest' });
  input.setAttribute('aria-activedescendant', found.length ? `found-${at}` : '');
  input.setAttribute('aria-expanded', !list.hidden);
}

function pick(i, choose) {
  if (!found[i]) return;
  const { group } = found[i];
  close();
  choose(group);
}

export function close() {
  input.value = '';
  found = [];
  list.hidden = true;
  input.setAttribute('aria-expanded', false);
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
    input.setAttribute('aria-expanded', false);
  });
  input.addEventListener('focus', () => {
    if (input.value.trim()) draw(choose);
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
