// The model as Python wrote it, the places where its pictures are shown, and the paths of what stands there.

export const model = JSON.parse(document.getElementById('model').textContent);

// A path is a list of segments; one that stands for copies has their numbers, as pairs of first and last.
const split = (path) => (path ? path.split('.').map((text) => ({ text, ranges: numbers(text) })) : []);

function numbers(text) {
  const [, first, last = first] = text.match(/^\[(\d+)(?:-(\d+))?\]$/) ?? [];
  return first === undefined ? null : [[Number(first), Number(last)]];
}

const written = (path) => path.map(({ text }) => text).join('.');

// A place is one picture where it is shown: the whole, or a block inside the spot that opens it.
// A spot is one card at one place. Keys are unique in the page; paths are those of the spec.
export const root = { key: '', picture: model.pictures[0], path: [], owner: null, badge: '' };

const known = new Map();

export function spots(place) {
  if (!known.has(place.key)) {
    const found = Object.entries(place.picture.cards).map(([id, card]) => spot(place, id, card));
    known.set(place.key, new Map(found.map((one) => [one.id, one])));
  }
  return known.get(place.key);
}

function spot(place, id, card) {
  const line = [...place.path, ...split(card.path)];
  const found = { key: `${place.key}/${id}`, id, card, place, line };
  found.inner = (card.opens ?? []).map((kind, i) => ({
    key: `${found.key}>${i}`,
    picture: model.pictures[kind.picture],
    path: kind.at ? [...line, { text: kind.at, ranges: kind.ranges ?? [] }] : line,
    owner: found,
    badge: card.opens.length > 1 ? `${kind.badge}  ${kind.at}` : kind.badge,
  }));
  found.path = found.inner.length === 1 ? found.inner[0].path : line; // with the copies, where they are of one kind
  return found;
}

// Every spot, those of the whole first.
function* everything() {
  const places = [root];
  for (const place of places) {
    for (const one of spots(place).values()) {
      yield one;
      places.push(...one.inner);
    }
  }
}

// The spots on show where the blocks of some keys are open.
export function* visible(open, place = root) {
  for (const one of spots(place).values()) {
    yield one;
    if (open.has(one.key)) for (const inner of one.inner) yield* visible(open, inner);
  }
}

// Every line of the model once, as the spots where it stands.
let all = null;
export function lines() {
  if (all) return all;
  const byPath = new Map();
  for (const one of everything()) {
    const line = `${written(one.path)} ${one.card.name}`;
    if (!byPath.has(line)) byPath.set(line, []);
    byPath.get(line).push(one);
  }
  all = [...byPath.values()];
  return all;
}

export const around = (one) => (one.place.owner ? [...around(one.place.owner), one.place.owner] : []);

// The lines drawn inside the card of another, each as a card.
export const parts = (one) =>
  (one.card.parts ?? []).map((card) => ({ card, path: [...one.place.path, ...split(card.path)] }));

// -- paths ----------------------------------------------------------------------------------------

// A path in words: where kinds of copies are folded, the first copy.
export const named = ({ path, card }) =>
  path.map(({ text }) => text.replace(/^\[([^\],-]+)[^\]]*,.*\]$/, '[$1]')).join('.') || card.name;

// What the address has for a spot: a path that leads back to it.
export function address(one) {
  const first = one.inner.length > 1 ? [{ card: one.card, path: one.inner[0].path }] : [];
  const words = [one, ...first].map(named);
  return words.find((path) => find(path).includes(one)) ?? words[0];
}

// Segments fit if they are equal, or if a number is that of one of the copies: layers.17 in layers.[3-60].
function fits(asked, { text, ranges }) {
  if (asked === text || `[${asked}]` === text) return true;
  if (!ranges) return false;
  const number = asked.match(/^\[?(\d+)\]?$/)?.[1];
  if (number !== undefined) return ranges.some(([first, last]) => first <= number && number <= last);
  return asked === '*' || (asked[0] === '[' && text.startsWith(`${asked.slice(0, -1)},`));
}

const same = (asked, path) => path.length === asked.length && path.every((part, i) => fits(asked[i], part));

// Whether the words of a path stand somewhere in it; the first may lack its beginning, the last its end.
export function within(asked, path) {
  const rest = path.length - asked.length;
  const loose = (word, part, i) =>
    fits(word, part) ||
    (i === 0 && part.text.endsWith(word) && asked.length > 1) ||
    (i === asked.length - 1 && part.text.startsWith(word));
  for (let at = 0; at <= rest; at++) if (asked.every((word, i) => loose(word, path[at + i], i))) return true;
  return false;
}

// The names of a line's weights: its own, and second names of those that it shares.
export const weights = ({ card, path, line }) =>
  [...(card.weights ?? []), ...(card.tied ?? [])].map(([name]) => [...(line ?? path), { text: name }]);

// The paths of what a card shows: its line, lines inside it, and their weights.
export const names = (one) => [one.path, one.line, ...[one, ...parts(one)].flatMap((o) => [o.path, ...weights(o)])];

// The spots that a path names, nearest to the whole first; a weight's name stands for its line.
export function find(path) {
  const asked = path.split('.');
  const test = (one) => names(one).some((name) => same(asked, name)) || (!one.path.length && one.card.name === path);
  const place = (one) => one.inner.some((inner) => same(asked, inner.path));
  return lines().find(([one]) => test(one)) ?? lines().find(([one]) => place(one)) ?? [];
}

// -- shared weights -------------------------------------------------------------------------------

// Who owns the weight that a spot shares: along the wires, out of blocks that it enters.
export function owner(one) {
  const wire = one.place.picture.wires.find((w) => w.to === one.id && (w.kind === 'shared' || w.kind === 'entering'));
  return wire ? source(one.place, wire) : null;
}

function source(place, wire) {
  const [, port] = wire.from.match(/\/in-(.*)$/) ?? [];
  if (!port || !place.owner) return spots(place).get(wire.from) ?? null;
  const outer = place.owner.place;
  const above = outer.picture.wires.find((w) => w.to === place.owner.id && w.enters === port);
  return above ? source(outer, above) : null;
}
