// The model as Python wrote it, the places where its pictures are shown, and the paths of what stands there.

export const model = JSON.parse(document.getElementById('model').textContent);

const join = (...parts) => parts.filter(Boolean).join('.');

// A place is one picture where it is shown: the whole, or a block inside the spot that opens it.
// A spot is one card at one place. Keys are unique in the page; paths are those of the spec.
export const root = { key: '', picture: model.pictures[0], path: '', owner: null, badge: '' };

const known = new Map();

export function spots(place) {
  if (!known.has(place.key)) {
    const found = Object.entries(place.picture.cards).map(([id, card]) => ({
      key: `${place.key}/${id}`,
      id,
      card,
      place,
      path: join(place.path, card.path),
    }));
    known.set(place.key, new Map(found.map((spot) => [spot.id, spot])));
  }
  return known.get(place.key);
}

export function inside(spot) {
  spot.inner ??= (spot.card.opens ?? []).map((kind, i) => ({
    key: `${spot.key}>${i}`,
    picture: model.pictures[kind.picture],
    path: join(spot.path, kind.at),
    owner: spot,
    badge: kind.badge,
    ranges: kind.ranges ?? [],
  }));
  return spot.inner;
}

export function* everything(place = root) {
  for (const spot of spots(place).values()) {
    yield spot;
    for (const inner of inside(spot)) yield* everything(inner);
  }
}

// Every line of the model once: the same line may stand at several places.
const byPath = new Map();
for (const spot of everything()) {
  const line = `${spot.path} ${spot.card.name}`;
  if (!byPath.has(line)) byPath.set(line, []);
  byPath.get(line).push(spot);
}
export const lines = [...byPath.values()];

export const around = (spot) => (spot.place.owner ? [...around(spot.place.owner), spot.place.owner] : []);

// What a path of the spec takes: where kinds of copies are folded, the first of them.
export const named = (path) => path.replace(/\[([^\],-]+)[^\]]*,[^\]]*\]/g, '[$1]');

// Segments fit if they are equal, or if a number lies in a range of copies: layers.17 in layers.[3-60].
function fits(asked, part) {
  if (asked === part || `[${asked}]` === part || named(part) === asked) return true;
  const number = Number(asked.replace(/[[\]]/g, ''));
  if (!part.startsWith('[') || asked === '' || Number.isNaN(number)) return false;
  return part
    .slice(1, -1)
    .split(',')
    .some((range) => {
      const [first, last = first] = range.split('-').map(Number);
      return first <= number && number <= last;
    });
}

// The lines drawn inside the card of another, each as a card.
export const parts = (spot) =>
  (spot.card.parts ?? []).map((card) => ({ card, path: join(spot.place.path, card.path) }));

// The paths of what a card shows: of lines inside it, and of weights.
export const names = (spot) => [
  ...(spot.card.weights ?? []).map(([name]) => join(spot.path, name)),
  ...parts(spot).flatMap((part) => [part.path, ...(part.card.weights ?? []).map(([name]) => join(part.path, name))]),
];

// The spots that a path names, nearest to the whole first; a weight's name stands for the line that owns it.
export function find(path) {
  const asked = path.split('.');
  const same = (found) => found.length === asked.length && found.every((part, i) => fits(asked[i], part));
  const test = (spot) => [spot.path, ...names(spot)].some((name) => same(name.split('.')));
  const place = (spot) => inside(spot).some((inner) => same(inner.path.split('.')));
  return lines.find((group) => test(group[0])) ?? lines.find((group) => place(group[0])) ?? [];
}

// Who owns the weight that a spot shares: along the wires, out of blocks that are lent it.
export function owner(spot) {
  const wire = spot.place.picture.wires.find((w) => w.to === spot.id && (w.kind === 'shared' || w.kind === 'lent'));
  return wire ? source(spot.place, wire) : null;
}

function source(place, wire) {
  const [, port] = wire.from.match(/\/in-(.*)$/) ?? [];
  if (!port || !place.owner) return spots(place).get(wire.from) ?? null;
  const outer = place.owner.place;
  const above = outer.picture.wires.find((w) => w.to === place.owner.id && w.enters === port);
  return above ? source(outer, above) : null;
}
