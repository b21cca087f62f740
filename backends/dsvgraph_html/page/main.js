// The page: what is open and selected, and what the reader does.

import { model, root, everything, around, find, owner, named } from './model.js';
import { start as load, compose } from './layout.js';
import { show, items, bySpot, elementOf, still } from './scene.js';
import * as view from './view.js';
import { hover, select as tell, copy, say } from './details.js';
import { input, start as search } from './search.js';
import { turn } from './theme.js';

const open = new Set();
const places = new Map([...everything()].map((spot) => [spot.key, spot]));
let selected = null;
let layout = null;

// -- layout ---------------------------------------------------------------------------------------

const box = (item) => (item.kind === 'card'
  ? { x: item.x - item.w / 2, y: item.y - item.h / 2, w: item.w, h: item.h }
  : { x: item.x, y: item.y, w: item.w, h: item.h });
const whole = () => ({ x: 0, y: 0, w: layout.w, h: layout.h });

// Lays out what is open. The view goes to `target` (a box) or keeps the spot `still` where it is on the screen.
function relayout({ target = null, anchor = null, smooth = true } = {}) {
  const before = anchor && bySpot(anchor);
  layout = compose(root, open);
  const after = anchor && layout.items.find((item) => item.spot?.key === anchor);
  const from = view.current();
  const to = target ? view.around(target()) : before && after ? kept(from, box(before), box(after)) : from;
  over = null;
  clearTimeout(timer);
  hover(null);
  show(layout, smooth, (t) => view.set(view.mixed(from, to, t)));
  mark();
}

// The view that keeps a box's middle in place, as far as the box then lies in the room.
function kept(from, old, now) {
  const free = view.room();
  const k = Math.min(from.k, Math.max(Math.min(free.width / now.w, free.height / now.h), 0.3));
  const clamp = (value, size, begin, length) => (size > length ? begin + (length - size) / 2 : Math.max(begin, Math.min(value, begin + length - size)));
  const left = from.x + (old.x + old.w / 2) * from.k - (now.w * k) / 2;
  const top = from.y + (old.y + old.h / 2) * from.k - (now.h * k) / 2;
  return {
    k, x: clamp(left, now.w * k, free.left, free.width) - now.x * k,
    y: clamp(top, now.h * k, free.top, free.height) - now.y * k,
  };
}

function toggle(spot) {
  if (!spot?.card.opens) return;
  if (open.has(spot.key)) open.delete(spot.key);
  else open.add(spot.key);
  relayout({ anchor: spot.key });
  if (selected === spot) choose(spot);
  say(`${spot.card.name} ${open.has(spot.key) ? 'opened' : 'closed'}`);
}

// Opens every block that is on show; false where there was none.
function deeper() {
  const shut = [...places.values()].filter((s) => s.card.opens && !open.has(s.key) && around(s).every((a) => open.has(a.key)));
  shut.forEach((spot) => open.add(spot.key));
  return shut.length > 0;
}

function openAll() {
  if (deeper()) relayout({ target: whole });
}

function closeAll() {
  open.clear();
  if (selected && selected.place !== root) choose(null);
  relayout({ target: whole });
}

// -- selection ------------------------------------------------------------------------------------

const actions = {
  isOpen: (spot) => open.has(spot.key), close: () => choose(null), toggle: () => toggle(selected),
  copy: () => copy(selected), owner: () => follow(selected),
};

function choose(spot, focus = true) {
  selected = spot;
  tell(spot, actions);
  hover(null);
  const hash = spot ? `#${encodeURI(named(spot.path) || spot.card.name)}` : '';
  if (spot || location.hash) history.replaceState(null, '', hash || location.pathname + location.search);
  mark();
  if (spot && focus) elementOf(spot.key)?.focus({ preventScroll: true });
}

function mark(near = selected) {
  for (const item of items()) {
    const group = document.querySelector(`g[data-key="${CSS.escape(item.spot?.key ?? '')}"]`);
    if (item.spot && group) group.classList.toggle('selected', item.spot === selected);
  }
  light(near);
}

// The wires of a spot stand out.
function light(spot) {
  for (const group of document.querySelectorAll('g.wire.near')) group.classList.remove('near');
  if (!spot) return;
  const keys = layout.items.map((item) => item.kind === 'wire' && Boolean(item.ends?.includes(spot.key)));
  const groups = [...document.querySelectorAll('#picture > g:not(.gone)')].slice(-layout.items.length);
  keys.forEach((near, i) => { if (near) groups[i]?.classList.add('near'); });
}

// Opens what is around one of the spots, the one that needs least of it, and shows it.
function reveal(group, smooth = true) {
  const shut = (spot) => around(spot).filter((s) => !open.has(s.key));
  const spot = [...group].sort((a, b) => shut(a).length - shut(b).length)[0];
  const more = shut(spot);
  more.forEach((s) => open.add(s.key));
  tell(spot, actions); // the panel takes room
  const target = () => box(layout.items.find((item) => item.spot?.key === spot.key));
  relayout({ smooth, target: () => wide(target()) });
  choose(spot);
}

// A box with room around it, so that a reader sees where it stands.
function wide({ x, y, w, h }) {
  const free = view.room();
  const more = Math.max(1, Math.min(free.width / (w * 1.1), free.height / (h * 1.1), 1.8));
  const k = Math.min(view.current().k, 1);
  const [W, H] = [Math.max(w * 1.1, (free.width / Math.max(k, 0.55)) * 0.9), Math.max(h * 1.1, (free.height / Math.max(k, 0.55)) * 0.9)];
  return more > 1 ? { x: x + w / 2 - W / 2, y: y + h / 2 - H / 2, w: W, h: H } : { x, y, w, h };
}

function follow(spot) {
  const source = spot && owner(spot);
  if (source) reveal([source]);
}

function fromHash(smooth) {
  let path = '';
  try { path = decodeURIComponent(location.hash.slice(1)); } catch { /* no path */ }
  const group = path ? find(path) : [];
  if (group.length) reveal(group, smooth);
  else if (path) say(`No line has the path ${path}`);
  return group.length > 0;
}

// -- pointer --------------------------------------------------------------------------------------

const spotOf = (event) => places.get(event.target.closest?.('g[data-key]')?.dataset.key);

view.stage.addEventListener('click', (event) => {
  if (view.wasDragged()) return;
  const spot = spotOf(event);
  if (event.target.closest('.toggle')) toggle(spot);
  else choose(spot ?? null);
});
view.stage.addEventListener('dblclick', (event) => toggle(spotOf(event)));

// Facts come up where the pointer rests, not where the picture moves under it.
let over = null;
let timer = 0;
view.stage.addEventListener('pointermove', (event) => {
  const group = event.target.closest?.('g[data-key]');
  const spot = group?.classList.contains('frame') ? null : spotOf(event);
  const calm = !spot || spot === selected || event.buttons || event.pointerType === 'touch';
  if (over === (calm ? null : spot)) return;
  over = calm ? null : spot;
  hover(null);
  light(over ?? selected);
  clearTimeout(timer);
  timer = setTimeout(() => { if (over) hover(over, group.getBoundingClientRect()); }, over ? 140 : 0);
});
view.stage.addEventListener('pointerleave', () => { over = null; clearTimeout(timer); hover(null); });

// -- keyboard -------------------------------------------------------------------------------------

const SIDES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// The nearest spot in a direction; frames count as their title.
function next([dx, dy]) {
  const all = items().filter((item) => item.spot);
  const at = (item) => (item.kind === 'card' ? [item.x, item.y] : [item.x + item.w / 2, item.y + 10]);
  const here = selected && bySpot(selected.key);
  if (!here) return all.sort((a, b) => b.y - a.y)[0]?.spot;
  const [x, y] = at(here);
  const far = (item) => {
    const [ax, ay] = at(item);
    const along = (ax - x) * dx + (ay - y) * dy;
    const aside = Math.abs((ax - x) * dy) + Math.abs((ay - y) * dx);
    return along > 1 ? along + 2.5 * aside : Infinity;
  };
  const best = all.filter((item) => item !== here && far(item) < Infinity).sort((a, b) => far(a) - far(b))[0];
  return best?.spot;
}

function step(direction) {
  const spot = next(direction);
  if (!spot) return;
  choose(spot);
  const free = view.room();
  const item = box(bySpot(spot.key));
  const now = view.current();
  const off = (begin, size, low, length) => Math.max(0, low + 20 - begin) - Math.max(0, begin + size - low - length + 20);
  const [dx, dy] = [off(now.x + item.x * now.k, item.w * now.k, free.left, free.width), off(now.y + item.y * now.k, Math.min(item.h * now.k, 60), free.top, free.height)];
  if (dx || dy) view.go({ ...now, x: now.x + dx, y: now.y + dy });
}

const help = document.getElementById('help');
const KEYS = {
  '/': () => input.focus(), '+': () => view.go(view.zoom(1.3)), '=': () => view.go(view.zoom(1.3)),
  '-': () => view.go(view.zoom(1 / 1.3)), 0: () => view.go(view.around(whole())), f: () => view.go(view.around(whole())),
  Enter: () => toggle(selected), ' ': () => toggle(selected), c: () => selected && copy(selected),
  o: () => follow(selected), t: turn, e: openAll, E: closeAll, '?': () => { help.hidden = !help.hidden; },
  Escape: () => { if (!help.hidden) help.hidden = true; else choose(null); },
};

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest?.('button') && (event.key === 'Enter' || event.key === ' ')) return;
  const act = SIDES[event.key] ? () => step(SIDES[event.key]) : KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

for (const [id, act] of Object.entries({
  more: () => KEYS['+'](), less: () => KEYS['-'](), fit: () => KEYS.f(), open: openAll, shut: closeAll,
  print: () => print(), keys: () => KEYS['?'](), shutkeys: () => KEYS['?'](),
})) document.getElementById(id).addEventListener('click', act);

// -- printing -------------------------------------------------------------------------------------

// On paper the whole picture is as wide as the page.
addEventListener('beforeprint', () => {
  view.stage.setAttribute('viewBox', `0 0 ${layout.w} ${layout.h}`);
  document.getElementById('picture').removeAttribute('transform');
});
addEventListener('afterprint', () => {
  view.stage.removeAttribute('viewBox');
  view.set(view.current());
});

// -- start ----------------------------------------------------------------------------------------

// What the command asked to be open.
for (let level = model.start.levels ?? 0; level > 0 && deeper(); level--);
for (const path of model.start.open ?? []) {
  const [spot] = find(path);
  if (spot) for (const s of [...around(spot), spot]) if (s.card.opens) open.add(s.key);
}

await load();
layout = compose(root, open);
view.set(view.around(whole()));
const asked = !location.hash && model.start.path ? find(model.start.path) : [];
if (asked.length) reveal(asked, false);
else if (!fromHash(false)) relayout({ smooth: false });
search((group) => reveal(group));
addEventListener('hashchange', () => fromHash(!still()));
addEventListener('resize', () => { if (!selected) view.go(view.around(whole()), false); });
document.getElementById('wait').remove();
document.documentElement.dataset.ready = `${Math.round(performance.now())}`;
