// Panning and zooming: one transform of the picture.

import { layer, animate } from './scene.js';

export const stage = document.getElementById('stage');
const LEAST = 0.05;
const MOST = 6;
const view = { x: 0, y: 0, k: 1 };
const listeners = [];

export const current = () => ({ ...view });
export const onMove = (call) => listeners.push(call);

export function set({ x, y, k }) {
  Object.assign(view, { x, y, k });
  layer.setAttribute('transform', `translate(${x},${y}) scale(${k})`);
  listeners.forEach((call) => call());
}

export const mixed = (a, b, t) => ({ x: a.x + (b.x - a.x) * t, y: a.y + (b.y - a.y) * t, k: a.k + (b.k - a.k) * t });

export function go(to, smooth = true) {
  const from = current();
  animate((t) => set(mixed(from, to, t)), smooth);
}

// The part of the window that nothing lies over: the panel stands on the right, or below where the window is narrow.
export function room() {
  const { width, height } = stage.getBoundingClientRect();
  const top = document.getElementById('head').offsetHeight + 8;
  const panel = document.getElementById('panel').getBoundingClientRect(); // nothing while it is hidden
  const right = panel.width < width / 2 ? panel.width : 0;
  const below = panel.width < width / 2 ? 0 : panel.height;
  return { left: 16, top, width: width - 32 - right, height: Math.max(80, height - top - 16 - below) };
}

// The view that shows a box of the picture in the middle of the room.
export function around({ x, y, w, h }, most = 1.15) {
  const free = room();
  const k = Math.max(LEAST, Math.min(free.width / w, free.height / h, most));
  return { k, x: free.left + (free.width - w * k) / 2 - x * k, y: free.top + (free.height - h * k) / 2 - y * k };
}

export function zoom(factor, at = null) {
  const free = room();
  const [x, y] = at ?? [free.left + free.width / 2, free.top + free.height / 2];
  const k = Math.max(LEAST, Math.min(MOST, view.k * factor));
  return { k, x: x - ((x - view.x) * k) / view.k, y: y - ((y - view.y) * k) / view.k };
}

// -- pointers -------------------------------------------------------------------------------------

const pointers = new Map();
let dragged = 0;
export const wasDragged = () => dragged > 4;

stage.addEventListener(
  'wheel',
  (event) => {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 30 : 1;
    if (event.shiftKey) set({ ...view, x: view.x - (event.deltaX || event.deltaY) * unit });
    else set(zoom(Math.exp(-event.deltaY * unit * (event.ctrlKey ? 0.01 : 0.0016)), [event.clientX, event.clientY]));
  },
  { passive: false },
);

stage.addEventListener('pointerdown', (event) => {
  if (event.button) return;
  if (!pointers.size) dragged = 0;
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
});

addEventListener('pointermove', (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const now = [event.clientX, event.clientY];
  const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
  dragged += Math.hypot(now[0] - before[0], now[1] - before[1]);
  stage.classList.toggle('dragging', wasDragged());
  if (other) {
    const far = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
    set(zoom(far(now) / far(before), other));
  } else if (wasDragged()) set({ ...view, x: view.x + now[0] - before[0], y: view.y + now[1] - before[1] });
  pointers.set(event.pointerId, now);
});

for (const kind of ['pointerup', 'pointercancel']) {
  addEventListener(kind, (event) => {
    pointers.delete(event.pointerId);
    stage.classList.remove('dragging');
  });
}
