// Where the view goes: what stays in its place, what is shown with room around it, what is next.

import { current, room, set } from './view.js';

export function box({ kind, x, y, w, h }) {
  return kind === 'card' ? { x: x - w / 2, y: y - h / 2, w, h } : { x, y, w, h };
}

const least = 0.3; // words are still words

// The view that keeps a box's middle where it was before it grew, as far as the box then lies in the room.
export function kept(old, now) {
  const { x, y, k: before } = current();
  const free = room();
  const k = Math.min(before, Math.max(Math.min(free.width / now.w, free.height / now.h), least));
  const left = x + (old.x + old.w / 2) * before - (now.w * k) / 2;
  const top = y + (old.y + old.h / 2) * before - (now.h * k) / 2;
  return {
    k,
    x: within(left, now.w * k, free.left, free.width) - now.x * k,
    y: within(top, now.h * k, free.top, free.height) - now.y * k,
  };
}

function within(value, size, begin, length) {
  if (size > length) return begin + (length - size) / 2;
  return Math.max(begin, Math.min(value, begin + length - size));
}

const middle = ({ x, y, w, h }) => ({ x: x + w / 2, y: y + h / 2 });

// How far it is from the middle of one box to that of another.
export function between(a, b) {
  const [from, to] = [middle(a), middle(b)];
  return { x: to.x - from.x, y: to.y - from.y };
}

// Steps from one view to another in which the middle of a box that moves and grows goes straight on the screen.
export function held(from, to, old, now) {
  const on = (view, box) => ({ x: view.x + middle(box).x * view.k, y: view.y + middle(box).y * view.k });
  const mix = (a, b, t) => a + (b - a) * t;
  return (t) => {
    const k = mix(from.k, to.k, t);
    const at = (axis) =>
      mix(on(from, old)[axis], on(to, now)[axis], t) - k * mix(middle(old)[axis], middle(now)[axis], t);
    set({ k, x: at('x'), y: at('y') });
  };
}

// A box with as much around it as fills the room at a size to read, so that a reader sees where it stands.
export function wide({ x, y, w, h }) {
  const free = room();
  const k = Math.max(Math.min(current().k, 1), 0.55);
  const W = Math.max(w * 1.1, (free.width / k) * 0.9);
  const H = Math.max(h * 1.1, (free.height / k) * 0.9);
  return { x: x + w / 2 - W / 2, y: y + h / 2 - H / 2, w: W, h: H };
}

// The view that brings a box (the top of a tall one) into the room; null where it is in it.
export function seen({ x, y, w, h }) {
  const now = current();
  const free = room();
  const off = (begin, size, low, length) =>
    Math.max(0, low + 20 - begin) - Math.max(0, begin + size + 20 - low - length);
  const dx = off(now.x + x * now.k, w * now.k, free.left, free.width);
  const dy = off(now.y + y * now.k, Math.min(h * now.k, 60), free.top, free.height);
  return dx || dy ? { ...now, x: now.x + dx, y: now.y + dy } : null;
}

// The item next to one in a direction; frames count as their title. Without one, the lowest.
export function nearest(items, here, [dx, dy]) {
  const at = (item) => (item.kind === 'card' ? [item.x, item.y] : [item.x + item.w / 2, item.y + 10]);
  if (!here) return items.sort((a, b) => b.y - a.y)[0];
  const [x, y] = at(here);
  const far = (item) => {
    const [ax, ay] = at(item);
    const along = (ax - x) * dx + (ay - y) * dy;
    const aside = Math.abs((ax - x) * dy) + Math.abs((ay - y) * dx);
    return along > 1 ? along + 2.5 * aside : Infinity;
  };
  const found = items.filter((item) => item !== here && far(item) < Infinity);
  return found.sort((a, b) => far(a) - far(b))[0];
}
