// Items as SVG: made through the DOM, so that whatever a spec says is text.

import { named } from './model.js';

const SVG = 'http://www.w3.org/2000/svg';

export function make(name, attributes = {}, ...children) {
  const found = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) found.setAttribute(key, value);
  found.append(...children);
  return found;
}

// Colours are those of the light pictures; the style sheet has the dark counterpart of each by kind.
const colour = (kind, value) => (value ? `var(--${kind}-${value.slice(1)}, ${value})` : 'none');

function paint(element, prim) {
  element.style.stroke = colour('stroke', prim.stroke);
  element.style.fill = colour(prim.fill && prim.fill === prim.stroke ? 'stroke' : 'area', prim.fill);
  element.style.strokeWidth = `${prim.width}px`;
  if (prim.dash) element.style.strokeDasharray = '5 3';
  return element;
}

const round = (n) => Math.round(n * 100) / 100;

export function along(prim, points = prim.points) {
  const text = points.map(([x, y]) => `${round(x)},${round(y)}`);
  if (prim.op === 'curve') return `M${text[0]}C${text.slice(1).join(' ')}${prim.closed ? 'Z' : ''}`;
  return `M${text.join('L')}${prim.op === 'shape' ? 'Z' : ''}`;
}

const ANCHORS = { l: 'start', c: 'middle', r: 'end' };
const pen = document.createElement('canvas').getContext('2d');
const FACES = {
  Courier: '"Courier New", "Liberation Mono", Courier, monospace',
  Arial: 'Arial, "Liberation Sans", Helvetica, sans-serif',
};

export function drawn(prim) {
  const [[x, y]] = prim.points;
  if (prim.op === 'text') return words(prim, x, y);
  if (prim.op === 'ellipse') return paint(make('ellipse', { cx: x, cy: y, rx: prim.rx, ry: prim.ry }), prim);
  return paint(make('path', { d: along(prim) }), prim);
}

function words(prim, x, y) {
  const text = make('text', { y: round(y) });
  text.textContent = prim.text.replace(/^ +| {2,}/g, (gap) => '\u00a0'.repeat(gap.length));
  text.classList.toggle('mono', prim.face === 'Courier');
  text.classList.toggle('bold', Boolean(prim.style & 1));
  text.classList.toggle('italic', Boolean(prim.style & 2));
  text.style.fontSize = `${prim.size}px`;
  text.style.fill = colour('text', prim.stroke);
  hold(text, prim, x);
  return text;
}

// Graphviz laid the words out with a width; other fonts keep within it, and narrower words stand in its middle.
function hold(text, prim, x) {
  pen.font = `${prim.style & 2 ? 'italic ' : ''}${prim.style & 1 ? 'bold ' : ''}${prim.size}px ${FACES[prim.face]}`;
  const ratio = prim.held ? pen.measureText(text.textContent).width / prim.held : 1;
  const short = ratio < 0.93 && prim.align === 'l' && prim.text.length < 8;
  text.setAttribute('text-anchor', short ? 'middle' : ANCHORS[prim.align]);
  text.setAttribute('x', round(short ? x + prim.held / 2 : x));
  if (ratio > 1.01) {
    text.setAttribute('textLength', round(prim.held));
    text.setAttribute('lengthAdjust', 'spacingAndGlyphs');
  }
}

// -- items ----------------------------------------------------------------------------------------

export function element(item) {
  const hidden = item.kind === 'wire' ? true : null; // cards tell what they take and give
  const group = make('g', { class: item.kind, 'data-key': item.spot?.key ?? null, 'aria-hidden': hidden });
  if (item.kind === 'frame') {
    group.append(paint(make('rect', { rx: 11, ry: 11 }), item), ...item.title.map(drawn));
  } else {
    group.append(...item.prims.map(drawn));
  }
  if (item.kind === 'card')
    group.prepend(
      make('rect', {
        class: 'around',
        rx: 10,
        x: -item.w / 2 - 3,
        y: -item.h / 2 - 3,
        width: item.w + 6,
        height: item.h + 6,
      }),
    );
  if (item.spot?.card.opens) group.append(toggler(item));
  if (item.spot) describe(group, item);
  return group;
}

function toggler(item) {
  const open = item.kind === 'frame';
  const at = open ? [0, 0] : [item.w / 2 - 4, item.h / 2 - 4];
  const sign = make('path', { d: open ? 'M-4,0H4' : 'M-4,0H4M0,-4V4' });
  return make('g', { class: 'toggle', transform: `translate(${at})` }, make('circle', { r: 8.5 }), sign);
}

function describe(group, item) {
  const { card } = item.spot;
  const state = card.opens ? (item.kind === 'frame' ? ', open' : ', closed') : '';
  group.setAttribute('role', 'button');
  group.setAttribute('tabindex', -1);
  group.setAttribute('aria-label', `${card.name}, ${card.does || card.callee}, ${named(item.spot)}${state}`);
  if (card.opens) group.setAttribute('aria-expanded', item.kind === 'frame');
}

// Puts an element where its item is on the way from `old` to `item`; t runs from 0 to 1.
export function place(group, item, old, t) {
  const mix = (a, b) => a + (b - a) * t;
  const x = mix(old.x, item.x);
  const y = mix(old.y, item.y);
  if (item.kind === 'wire') return wire(group, item, old, t);
  group.setAttribute('transform', `translate(${round(x)},${round(y)})`);
  if (item.kind === 'frame') {
    const w = mix(old.w, item.w);
    const rect = group.firstChild;
    rect.setAttribute('width', round(w));
    rect.setAttribute('height', round(mix(old.h, item.h)));
    group.querySelector('.toggle')?.setAttribute('transform', `translate(${round(w - 16)},14)`);
  }
  return group;
}

function wire(group, item, old, t) {
  const between = (a, b, from, to) =>
    a.map(([x, y], i) => [
      (x + from.x) * (1 - t) + (b[i][0] + to.x) * t,
      (y + from.y) * (1 - t) + (b[i][1] + to.y) * t,
    ]);
  item.prims.forEach((prim, i) => {
    const points = between(old.prims[i].points, prim.points, old, item);
    const shape = group.children[i];
    if (prim.op === 'text') {
      shape.setAttribute('x', round(points[0][0]));
      shape.setAttribute('y', round(points[0][1]));
    } else shape.setAttribute('d', along(prim, points));
  });
  return group;
}

// Whether an element can go from one item to the other: it has the same parts.
export function alike(old, item) {
  if (old.kind !== item.kind) return false;
  if (item.kind !== 'wire') return true;
  return (
    old.prims.length === item.prims.length &&
    old.prims.every((prim, i) => prim.op === item.prims[i].op && prim.points.length === item.prims[i].points.length)
  );
}
