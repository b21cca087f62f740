// Light or dark: as the reader's system is set, until the switch is used.

import { model } from './model.js';

const system = matchMedia('(prefers-color-scheme: dark)');
const NEXT = { auto: 'light', light: 'dark', dark: 'auto' };
const button = document.getElementById('theme');
let wanted = model.start.theme ?? 'auto';

function apply() {
  document.documentElement.dataset.theme = wanted === 'auto' ? (system.matches ? 'dark' : 'light') : wanted;
  button.dataset.wanted = wanted;
  button.title = `Colours: ${wanted} (t)`;
  button.setAttribute('aria-label', `Colours: ${wanted}`);
}

export function turn() {
  wanted = NEXT[wanted];
  try {
    localStorage.setItem('dsvgraph-theme', wanted);
  } catch {
    /* a file may have no storage */
  }
  apply();
}

try {
  const kept = localStorage.getItem('dsvgraph-theme');
  if (kept in NEXT) wanted = kept;
} catch {
  /* a file may have no storage */
}
system.addEventListener('change', apply);
button.addEventListener('click', turn);
apply();
