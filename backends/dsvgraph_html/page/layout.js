// Lays pictures out with graphviz: a card that is open is a box as large as the picture inside it.

import { spots } from './model.js';

const GAP = 34; // points between the frames of two kinds of copies
const laid = new Map();
let graphviz = null;

export const start = async () => {
  graphviz = await Graphviz.load();
};

function lay(dot) {
  if (!laid.has(dot)) laid.set(dot, JSON.parse(graphviz.layout(dot, 'json', 'dot')));
  return laid.get(dot);
}

// The items of a place: frames, cards and wires with their places in points, y downwards.
export function compose(place, open) {
  const picture = place.picture;
  const inner = new Map();
  for (const id of picture.holes) {
    const spot = spots(place).get(id);
    if (open.has(spot.key))
      inner.set(
        id,
        stack(
          spot.inner.map((p) => compose(p, open)),
          spot.key,
        ),
      );
  }
  const fill = (dot) => read(lay(filled(dot, place, inner)), place, inner);
  return picture.apart && inner.size ? beside(...picture.apart.map(fill)) : fill(picture.dot);
}

// Two pictures side by side, on one line.
function beside(left, right) {
  const h = Math.max(left.h, right.h);
  const items = [
    ...left.items.map((item) => shifted(item, 0, h - left.h)),
    ...right.items.map((item) => shifted(item, left.w, h - right.h)),
  ];
  return { w: left.w + right.w, h, items, ins: new Map(), outs: new Map() };
}

function filled(dot, place, inner) {
  const { labels, holes, wires } = place.picture;
  const badge = place.badge ? `   ${place.badge}` : '';
  return dot
    .replace(/label=<@(\d+)@>/g, (_, n) => `label=${inner.has(holes[n]) ? box(inner.get(holes[n])) : labels[n]}`)
    .replace(/ {3}@@(?=<)/, () => badge)
    .replace(/ class="w(\d+)"/g, (text, n) => ports(wires[n], inner) + text);
}

function ports(wire, inner) {
  const leaves = inner.get(wire.from)?.outs.has(wire.leaves) ? ` tailport="out_${wire.leaves}:n"` : '';
  const enters = inner.get(wire.to)?.ins.has(wire.enters) ? ` headport="in_${wire.enters}:s"` : '';
  return leaves + enters;
}

// A label as large as what is open, with a port wherever a wire goes through its border.
function box({ w, h, ins, outs }) {
  const wide = Math.ceil(w);
  const rows = [strip(outs, 'out_', wide), cell('', wide, Math.ceil(h) - 2), strip(ins, 'in_', wide)];
  return `<${table(rows.map((row) => `<tr>${row.startsWith('<table') ? `<td>${row}</td>` : row}</tr>`).join(''))}>`;
}

const table = (rows) => `<table border="0" cellborder="0" cellspacing="0" cellpadding="0">${rows}</table>`;
const cell = (port, wide, high) =>
  `<td ${port ? `port="${port}" ` : ''}fixedsize="true" width="${wide}" height="${high}"></td>`;

function strip(places, prefix, wide) {
  let at = 0;
  let cells = '';
  for (const [name, x] of [...places].sort((a, b) => a[1] - b[1])) {
    const left = Math.max(at, Math.round(x) - 1);
    cells += (left > at ? cell('', left - at, 1) : '') + cell(prefix + name, 2, 1);
    at = left + 2;
  }
  return table(`<tr>${cells}${wide > at ? cell('', wide - at, 1) : ''}</tr>`);
}

// Kinds of copies stand over each other, the first below, joined where values go from one to the next.
function stack(frames, key) {
  const shifts = [0];
  for (let i = 1; i < frames.length; i++) {
    shifts.push(shifts[i - 1] + middle(frames[i - 1].outs, frames[i - 1].w) - middle(frames[i].ins, frames[i].w));
  }
  const left = Math.min(...shifts);
  const w = Math.max(...frames.map((frame, i) => frame.w + shifts[i] - left));
  const h = frames.reduce((sum, frame) => sum + frame.h, GAP * (frames.length - 1));
  let bottom = h;
  const items = [];
  frames.forEach((frame, i) => {
    const dx = shifts[i] - left;
    items.push(...frame.items.map((item) => shifted(item, dx, bottom - frame.h)));
    bottom -= frame.h + GAP;
    if (i + 1 < frames.length) items.push(link(`${key}#${i}`, dx + middle(frame.outs, frame.w), bottom));
  });
  return {
    w,
    h,
    items,
    ins: moved(frames[0].ins, shifts[0] - left),
    outs: moved(frames.at(-1).outs, shifts.at(-1) - left),
  };
}

const middle = (places, w) => [...places.values()][0] ?? w / 2;
const moved = (places, dx) => new Map([...places].map(([name, x]) => [name, x + dx]));
const shifted = (item, dx, dy) => ({ ...item, x: item.x + dx, y: item.y + dy });

function link(key, x, y) {
  const pen = { stroke: '#64748b', width: 1.5 };
  const line = {
    op: 'curve',
    points: [
      [x, y + GAP],
      [x, y + 24],
      [x, y + 16],
      [x, y + 8],
    ],
    ...pen,
  };
  const head = {
    op: 'shape',
    points: [
      [x - 2.7, y + 8],
      [x, y],
      [x + 2.7, y + 8],
    ],
    ...pen,
    fill: '#64748b',
  };
  return { key, kind: 'wire', x: 0, y: 0, prims: [line, head] };
}

// -- what graphviz says ---------------------------------------------------------------------------

function read(json, place, inner) {
  const frame = json.objects.find((o) => o.name === 'cluster_main');
  const [left, bottom, right, top] = bounds(place.owner ? frame.bb : json.bb);
  const flip = ([x, y]) => [x - left, top - y];
  const names = new Map(json.objects.map((o) => [o._gvid, o.name]));
  const wires = (json.edges ?? []).filter((edge) => edge.style !== 'invis');
  const items = [
    ...json.objects.filter((o) => o.name.startsWith('cluster_')).flatMap((o) => [...frames(o, place, flip)]),
    ...json.objects.filter((o) => o.pos).flatMap((o) => node(o, place, inner.get(o.name), flip)),
    ...wires.map((edge) => wired(edge, place, names, flip)),
  ];
  const ends = (word) => (place.owner ? borders(json.objects, `main/${word}-`, flip) : new Map());
  return { w: right - left, h: top - bottom, items, ins: ends('in'), outs: ends('out') };
}

const position = (object, flip) => flip(object.pos.split(',').map(Number));

// Where the words on the border of a block stand, from left to right.
function borders(objects, prefix, flip) {
  const found = objects.filter((o) => o.name.startsWith(prefix));
  return new Map(found.map((o) => [o.name.slice(prefix.length), position(o, flip)[0]]));
}

// A card, or what is inside it; corners of rails are nothing to see.
function node(object, place, open, flip) {
  const [x, y] = position(object, flip);
  if (open) return open.items.map((item) => shifted(item, x - open.w / 2, y - open.h / 2));
  return object._ldraw_ ? [card(object, place, x, y, flip)] : [];
}

const bounds = (text) => text.split(',').map(Number);

function* frames(object, place, flip) {
  if (!object._draw_) return;
  const [x0, y0, x1, y1] = bounds(object.bb);
  const [x, y] = flip([x0, y1]);
  const [shape, pen] = prims(object._draw_, (p) => p);
  const own = object.name === 'cluster_main' && place.owner;
  yield {
    key: `${place.key}|${object.name}`,
    kind: 'frame',
    x,
    y,
    w: x1 - x0,
    h: y1 - y0,
    fill: shape.fill,
    stroke: (pen ?? shape).stroke,
    width: (pen ?? shape).width,
    spot: own ? place.owner : null,
    title: prims(object._ldraw_ ?? [], (p) => {
      const [a, b] = flip(p);
      return [a - x, b - y];
    }),
  };
}

function card(object, place, x, y, flip) {
  const relative = (p) => {
    const [a, b] = flip(p);
    return [a - x, b - y];
  };
  const drawn = [...(object._draw_ ?? []), ...(object._ldraw_ ?? [])];
  return {
    key: `${place.key}/${object.name}`,
    kind: 'card',
    x,
    y,
    w: object.width * 72,
    h: object.height * 72,
    spot: spots(place).get(object.name) ?? null,
    prims: prims(drawn, relative),
  };
}

function wired(edge, place, names, flip) {
  const number = edge.class?.match(/^w(\d+)$/)?.[1];
  const wire = number === undefined ? null : place.picture.wires[number];
  const ends = [edge.tail, edge.head].map((id) => `${place.key}/${names.get(id)}`);
  const drawn = [edge._draw_, edge._tdraw_, edge._hdraw_, edge._ldraw_].flatMap((ops) => ops ?? []);
  return {
    key: `${place.key}#${number ?? `${ends.join(' ')} ${edge._gvid}`}`,
    kind: 'wire',
    x: 0,
    y: 0,
    wire,
    ends,
    prims: prims(drawn, flip),
  };
}

// Graphviz's drawing operations, each with the pen that was set before it.
function prims(ops, at) {
  const found = [];
  const pen = { stroke: null, fill: null, width: 1, dash: false, size: 13, face: 'Arial', style: 0 };
  for (const op of ops) {
    if (op.op === 'c') recolour(pen, op.color);
    else if (op.op === 'C') pen.fill = visible(op.color);
    else if (op.op === 'F') Object.assign(pen, { size: op.size, face: op.face });
    else if (op.op === 't') pen.style = op.fontchar;
    else if (op.op === 'S') restyle(pen, op.style);
    else if (op.op === 'T')
      found.push({ op: 'text', points: [at(op.pt)], text: op.text, held: op.width, align: op.align, ...pen });
    else if (op.op === 'E' || op.op === 'e') found.push(ellipse(op, pen, at));
    else if ('PpLBb'.includes(op.op)) found.push(outline(op, pen, at));
  }
  return found;
}

// A colour that is just not opaque is that of a dashed border (see picture.py).
function recolour(pen, colour) {
  pen.stroke = visible(colour)?.slice(0, 7) ?? null;
  if (colour.length === 9 && colour.endsWith('fe')) pen.dash = true;
}

const visible = (colour) => (colour.length === 9 && colour.endsWith('00') ? null : colour);

function restyle(pen, style) {
  if (style.startsWith('setlinewidth')) pen.width = Number(style.slice(13, -1));
  else pen.dash = style === 'dashed';
}

function ellipse(op, pen, at) {
  const [cx, cy, rx, ry] = op.rect;
  return { op: 'ellipse', points: [at([cx, cy])], rx, ry, ...pen, fill: op.op === 'E' ? pen.fill : null };
}

function outline(op, pen, at) {
  const filled = op.op === 'P' || op.op === 'B';
  const kind = op.op === 'B' || op.op === 'b' ? 'curve' : op.op === 'L' ? 'line' : 'shape';
  const first = op.points[0];
  const last = op.points.at(-1);
  const closed = kind === 'curve' && first[0] === last[0] && first[1] === last[1];
  return { op: kind, points: op.points.map(at), ...pen, fill: filled ? pen.fill : null, closed };
}
