'use strict';

/* colours tokens by the measure that was chosen */
const tokens = [...document.querySelectorAll('.tokens span[data-p]')];
const most = Math.max(1e-9, ...tokens.map((token) => Number(token.dataset.e)));
const ends = { p: ['0 %', '100 %'], c: ['0 %', '100 %'], e: [`${most.toFixed(1)} nats`, '0 nats'] };

const mixed = (share, low, high) => `color-mix(in oklab,var(--${high}) ${Math.round(100 * share)}%,var(--${low}))`;
const colour = (share) =>
  share < 0.5 ? mixed(2 * share, 'low', 'middle') : mixed(2 * share - 1, 'middle', 'high');

function show(measure) {
  for (const token of tokens) {
    const value = Number(token.dataset[measure]);
    token.style.background = colour(measure === 'e' ? 1 - value / most : value);
  }
  [['.least', 0], ['.most', 1]].forEach(([name, end]) => {
    document.querySelector(name).textContent = ends[measure][end];
  });
}

const buttons = [...document.querySelectorAll('button[data-measure]')];
for (const button of buttons) {
  button.addEventListener('click', () => {
    buttons.forEach((other) => other.setAttribute('aria-pressed', String(other === button)));
    show(button.dataset.measure);
  });
}
document.documentElement.dataset.ready = 'yes';
