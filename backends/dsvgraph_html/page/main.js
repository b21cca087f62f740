// The page: what is open and selected, and what the reader does.

import { model, root, visible, around, find, owner, address } from './model.js';
import { start as load, compose } from './layout.js';
import { show, items, bySpot, focus, mark, still } from './scene.js';
import * as view from './view.js';
import { box, kept, held, between, wide, nearest, seen } from './fit.js';
import { hover, select as tell, copy, say } from './details.js';
import { input, start as search } from './search.js';
import { turn } from './theme.js';

const open = new Set();
const MOST = 3000; // cards that one press opens
let selected = null;
let layout = null;
let over = null; // what the pointer rests on
let timer = 0;

// -- layout ---------------------------------------------------------------------------------------

const whole = () => ({ x: 0, y: 0, w: layout.w, h: layout.h });

// Lays out what is open. The view goes to `target` (a box) or keeps the spot `anchor` where it is on the screen.
function relayout({ target = null, anchor = null, smooth = true } = {}) {
  const before = anchor && bySpot(anchor);
  layout = compose(root, open);
  turnPaper();
  const after = anchor && layout.items.find((item) => item.spot?.key === anchor);
  const from = view.current();
  over = null;
  clearTimeout(timer);
  hover(null);
  if (before && after) {
    const [old, now] = [box(before), box(after)];
    show(layout, smooth, held(from, kept(old, now), old, now), between(now, old));
  } else {
    const to = target ? view.around(target()) : from;
    show(layout, smooth, (t) => view.set(view.mixed(from, to, t)));
  }
  mark(selected, selected);
}

function toggle(spot) {
  if (!spot?.card.opens) return;
  if (open.has(spot.key)) open.delete(spot.key);
  else open.add(spot.key);
  relayout({ anchor: spot.key });
  if (selected === spot || (selected && !bySpot(selected.key))) choose(spot); // what is closed in cannot be selected
  say(`${spot.card.name} ${open.has(spot.key) ? 'opened' : 'closed'}`, true);
}

// Opens every block that is on show; false where there was none, or too much is in them.
function deeper() {
  const shown = [...visible(open)];
  const shut = shown.filter((spot) => spot.card.opens && !open.has(spot.key));
  const more = shut.flatMap((spot) => spot.inner).reduce((sum, { picture }) => sum + Object.keys(picture.cards).length, 0);
  const fits = shown.length + more <= MOST;
  if (fits) shut.forEach((spot) => open.add(spot.key));
  else say('This is too much to open at once: open single blocks');
  return fits && shut.length > 0;
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
  isOpen: (spot) => open.has(spot.key),
  close: () => choose(null),
  toggle: () => toggle(selected),
  copy: () => copy(selected),
  owner: () => follow(selected),
};

// A jump is a step that the browser can go back.
function choose(spot, jump = false) {
  selected = spot;
  clearTimeout(timer);
  tell(spot, actions);
  hover(null);
  record(spot ? `#${encodeURI(address(spot))}` : '', jump);
  mark(selected, selected);
  if (spot) focus(spot.key);
}

function record(hash, jump) {
  if (hash === location.hash) return;
  try {
    history[jump ? 'pushState' : 'replaceState'](null, '', hash || location.pathname + location.search);
  } catch {
    /* a page inside another has no address */
  }
}

// Opens what is around one of the spots, the one that needs least of it, and shows it.
function reveal(group, { smooth = true, jump = true } = {}) {
  const shut = (spot) => around(spot).filter((s) => !open.has(s.key));
  const spot = [...group].sort((a, b) => shut(a).length - shut(b).length)[0];
  const more = shut(spot);
  more.forEach((s) => open.add(s.key));
  tell(spot, actions); // the panel takes room
  const target = () => box(layout.items.find((item) => item.spot?.key === spot.key));
  relayout({ smooth, target: () => wide(target()) });
  choose(spot, jump);
}

function follow(spot) {
  const source = spot && owner(spot);
  if (source) reveal([source]);
}

function fromHash(smooth) {
  let path = '';
  try {
    path = decodeURIComponent(location.hash.slice(1));
  } catch {
    /* no path */
  }
  const group = path ? find(path) : [];
  if (group.length) reveal(group, { smooth, jump: false });
  else if (path) say(`No line has the path ${path}`);
  else choose(null);
  return group.length > 0;
}

// -- pointer --------------------------------------------------------------------------------------

const spotOf = (event) => bySpot(event.target.closest?.('g[data-key]')?.dataset.key)?.spot;

view.stage.addEventListener('click', (event) => {
  if (view.wasDragged()) return;
  const spot = spotOf(event);
  if (event.target.closest('.toggle')) return toggle(spot);
  choose(spot ?? null);
  return spot && setTimeout(() => selected === spot && bringIn(spot), 400); // past a second click
});
view.stage.addEventListener('dblclick', (event) => {
  if (!event.target.closest('.toggle')) toggle(spotOf(event));
});

// Facts come up where the pointer rests, not where the picture moves under it.
view.stage.addEventListener('pointermove', (event) => {
  const group = event.target.closest?.('g[data-key]');
  const spot = group?.classList.contains('frame') ? null : spotOf(event);
  const calm = !spot || spot === selected || event.buttons || event.pointerType === 'touch';
  if (over === (calm ? null : spot)) return;
  over = calm ? null : spot;
  hover(null);
  mark(selected, over ?? selected);
  clearTimeout(timer);
  timer = setTimeout(
    () => {
      if (over) hover(over, group.getBoundingClientRect());
    },
    over ? 140 : 0,
  );
});
view.stage.addEventListener('pointerleave', () => {
  over = null;
  clearTimeout(timer);
  hover(null);
});

// -- keyboard -------------------------------------------------------------------------------------

const SIDES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function step(direction) {
  const here = selected && bySpot(selected.key);
  const item = nearest(
    items().filter(({ spot }) => spot),
    here,
    direction,
  );
  if (!item) return;
  choose(item.spot);
  bringIn(item.spot);
}

// Out from under the panel, or from beyond the window.
function bringIn(spot) {
  const to = seen(box(bySpot(spot.key)));
  if (to) view.go(to);
}

const help = document.getElementById('help');

function helped(on) {
  help.hidden = !on;
  document.getElementById(on ? 'shutkeys' : 'keys').focus();
}

const KEYS = {
  '/': () => input.focus(),
  '+': () => view.go(view.zoom(1.3)),
  '=': () => view.go(view.zoom(1.3)),
  '-': () => view.go(view.zoom(1 / 1.3)),
  0: () => view.go(view.around(whole())),
  f: () => view.go(view.around(whole())),
  Enter: () => toggle(selected),
  ' ': () => toggle(selected),
  c: () => selected && copy(selected),
  o: () => follow(selected),
  t: turn,
  e: openAll,
  E: closeAll,
  '?': () => helped(help.hidden),
  Escape: () => {
    if (!help.hidden) return helped(false);
    choose(null);
    return view.stage.focus();
  },
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
  more: () => KEYS['+'](),
  less: () => KEYS['-'](),
  fit: () => KEYS.f(),
  open: openAll,
  shut: closeAll,
  print: () => print(),
  keys: () => KEYS['?'](),
  shutkeys: () => KEYS['?'](),
}))
  document.getElementById(id).addEventListener('click', act);

// -- printing -------------------------------------------------------------------------------------

// On paper the whole picture is as wide as the page, or as high.
addEventListener('beforeprint', () => {
  view.stage.setAttribute('viewBox', `0 0 ${layout.w} ${layout.h}`);
  document.getElementById('picture').removeAttribute('transform');
});
addEventListener('afterprint', () => {
  view.stage.removeAttribute('viewBox');
  view.set(view.current());
});

// Which way the paper lies is asked before the page is told that it is printed.
let lies = '';
function turnPaper() {
  const wanted = layout.h > layout.w * 0.87 ? 'portrait' : 'landscape'; // where the picture is larger below its title
  if (wanted === lies) return;
  const [sheet] = document.styleSheets;
  if (lies) sheet.deleteRule(sheet.cssRules.length - 1);
  sheet.insertRule(`@page { size: ${wanted} }`, sheet.cssRules.length);
  lies = wanted;
}

// -- start ----------------------------------------------------------------------------------------

// What the command asked to be open.
for (let level = model.start.levels ?? 0; level > 0 && deeper(); level--);
for (const path of model.start.open ?? []) {
  const [spot] = find(path);
  if (spot) for (const s of [...around(spot), spot]) if (s.card.opens) open.add(s.key);
}

const wait = document.getElementById('wait');
try {
  await load();
  layout = compose(root, open);
} catch (error) {
  wait.textContent = `This browser cannot lay the picture out: ${error.message}`;
  throw error;
}
view.set(view.around(whole()));
const first = !location.hash && model.start.path ? find(model.start.path) : [];
if (first.length) reveal(first, { smooth: false, jump: false });
else if (!fromHash(false)) relayout({ smooth: false });
search((group) => reveal(group));
addEventListener('hashchange', () => fromHash(!still()));
addEventListener('resize', () => {
  if (!selected) view.go(view.around(whole()), false);
});
view.onMove(() => hover(null));
wait.remove();
document.documentElement.dataset.ready = `${Math.round(performance.now())}`;
