// What is on show: elements by key, moved smoothly from one layout to the next.

import { element, place, alike } from './draw.js';

const TIME = 320; // milliseconds
const shown = new Map();
let frame = 0;

export const layer = document.getElementById('picture');
export const items = () => [...shown.values()].map(({ item }) => item);
export const bySpot = (key) => items().find((item) => item.spot?.key === key);

export const focus = (key) =>
  [...shown.values()].find(({ item }) => item.spot?.key === key)?.group.focus({ preventScroll: true });

// One spot is selected; the wires of one, perhaps another, stand out.
export function mark(selected, near) {
  for (const { item, group } of shown.values()) {
    if (item.spot) group.classList.toggle('selected', item.spot === selected);
    if (item.ends) group.classList.toggle('near', Boolean(near) && item.ends.includes(near.key));
  }
}

export const still = () => document.hidden || matchMedia('(prefers-reduced-motion: reduce)').matches;

// Calls back with t from 0 to 1; a new call ends the one before.
let finish = () => {};
export function animate(step, smooth = true) {
  finish();
  if (!smooth || still()) return step(1);
  step(0);
  const begun = performance.now();
  const tick = (now) => {
    const t = Math.min(1, Math.max(0, (now - begun) / TIME));
    step(t < 0.5 ? 4 * t ** 3 : 1 - (2 - 2 * t) ** 3 / 2);
    if (t < 1) frame = requestAnimationFrame(tick);
    else finish = () => {};
  };
  finish = () => {
    cancelAnimationFrame(frame);
    finish = () => {};
    step(1);
  };
  frame = requestAnimationFrame(tick);
  return undefined;
}

const moved = (item, { x, y }) => ({ ...item, x: item.x + x, y: item.y + y });

// Shows the items of a layout; `along` is called with every step, for what moves with them. What comes new begins
// `shift` away from its place, and what goes ends as far from it: inside a block that moves, it moves with it.
export function show(layout, smooth, along = () => {}, shift = { x: 0, y: 0 }) {
  finish();
  const moves = [];
  const old = new Map(shown);
  for (const item of layout.items) {
    const before = old.get(item.key);
    if (before && alike(before.item, item)) {
      moves.push({ group: before.group, from: before.item, item });
      old.delete(item.key);
      shown.set(item.key, { group: before.group, item });
    } else {
      const group = element(item);
      moves.push({ group, from: moved(item, shift), item, fresh: true });
      shown.set(item.key, { group, item });
    }
  }
  const gone = [...old].map(([key, { group, item }]) => {
    if (shown.get(key)?.item === item) shown.delete(key);
    return { group, from: item, item: moved(item, { x: -shift.x, y: -shift.y }) };
  });
  layer.replaceChildren(...[...moves, ...gone].map(({ group }) => group));
  animate((t) => {
    for (const { group, from, item, fresh } of moves) {
      place(group, item, from, t);
      group.style.opacity = fresh && t < 1 ? t * t : '';
    }
    for (const { group, from, item } of gone) {
      place(group, item, from, t);
      group.style.opacity = 1 - t;
      if (t === 1) group.remove();
    }
    along(t);
  }, smooth);
}
