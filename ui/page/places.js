// The places on a photo or a blank picture: what was clicked and painted, step by step, and the masks that come of it.
//
// A place is a list of acts that never change; undo goes back to an earlier list. Its mask is drawn from the acts:
// what the segmenter found for the latest points and box, then the strokes over it. Inverting, clearing and filling
// begin anew on what there is.

import { boundsOf, shaped, signedDistance } from "./distance.js";

export const COLOURS = ["#ff4d6d", "#2f9bff", "#ffb020", "#22b573", "#a975ff", "#ff7a3d", "#00b8c4", "#b5c400"];
const LARGEST = 16e6; // pixels of a mask: larger photos have masks of half their sides or less
const WATCHED = 1e6; // cells in which growing is shown
const REACH = 64; // pixels by which a mask is grown at most, and over which it fades
const FRESH = ["invert", "clear", "image"];

export function context(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas.getContext("2d");
}

let count = 0; // of places, on all photos

export const keyOf = (act) => JSON.stringify([act.points, act.box, act.text]);

export class Places {
  /** `changed` is called after every change that can be seen. */
  constructor(width, height, changed) {
    this.width = width;
    this.height = height;
    this.changed = changed;
    this.scale = Math.min(1, Math.sqrt(LARGEST / (width * height)));
    this.maskWidth = Math.max(1, Math.round(width * this.scale));
    this.maskHeight = Math.max(1, Math.round(height * this.scale));
    this.bases = new Map();
    this.layers = new Map();
    this.words = new Map();
    this.painting = null; // the stroke that is being painted
    this.past = [];
    this.future = [];
    const first = this.fresh([]);
    this.now = { places: [first], active: first.id };
  }

  fresh(others) {
    const free = COLOURS.find((colour) => !others.some((place) => place.colour === colour));
    count++;
    return { id: count, colour: free ?? COLOURS[count % COLOURS.length], acts: [] };
  }

  get active() {
    return this.now.places.find((place) => place.id === this.now.active);
  }

  become(state) {
    this.past.push(this.now);
    this.future = [];
    this.now = state;
    this.changed();
  }

  /** One more act on the active place. */
  act(act) {
    const { active } = this;
    const places = this.now.places.map((place) => place === active ? { ...place, acts: [...place.acts, act] } : place);
    this.become({ ...this.now, places });
  }

  add() {
    const place = this.fresh(this.now.places);
    this.become({ places: [...this.now.places, place], active: place.id });
  }

  remove(id) {
    const places = this.now.places.filter((place) => place.id !== id);
    if (!places.length) places.push(this.fresh([]));
    const active = places.some((place) => place.id === this.now.active) ? this.now.active : places[0].id;
    this.become({ places, active });
  }

  choose(id) {
    this.now = { ...this.now, active: id };
    this.changed();
  }

  undo() {
    if (!this.past.length) return;
    this.future.push(this.now);
    this.now = this.past.pop();
    this.changed();
  }

  redo() {
    if (!this.future.length) return;
    this.past.push(this.now);
    this.now = this.future.pop();
    this.changed();
  }

  /** What the active place's mask is asked for now: the latest points, box and text since it began anew. */
  pointed(place = this.active) {
    for (let k = place.acts.length - 1; k >= 0; k--) {
      if (place.acts[k].kind === "points") return place.acts[k];
      if (FRESH.includes(place.acts[k].kind)) break;
    }
    return { kind: "points", points: [], box: null, text: "" };
  }

  /** Whether the segmenter can be asked: something must say what it is. */
  askable(act) {
    return Boolean(act.box || act.text || act.points.some(([, , label]) => label === 1));
  }

  found(act, base) {
    this.bases.set(keyOf(act), base);
    for (const layer of this.layers.values()) layer.acts = null;
    this.changed();
  }

  /** The canvas of a place's mask, opaque where it is, at `maskWidth` x `maskHeight`. */
  mask(place) {
    let layer = this.layers.get(place.id);
    if (!layer) {
      layer = { pen: context(this.maskWidth, this.maskHeight), acts: null, version: 0 };
      this.layers.set(place.id, layer);
    }
    const acts = this.painting && place === this.active ? [...place.acts, this.painting] : place.acts;
    if (layer.acts !== acts) {
      this.draw(layer, acts);
      layer.acts = acts;
      layer.version++;
    }
    return layer.pen.canvas;
  }

  draw({ pen, acts: drawn }, acts) {
    const known = drawn && drawn.length <= acts.length && drawn.every((act, k) => act === acts[k]);
    const rest = known ? acts.slice(drawn.length) : null;
    if (rest?.every((act) => act.kind === "stroke")) {
      for (const act of rest) this.stroke(pen, act);
      return;
    }
    pen.clearRect(0, 0, this.maskWidth, this.maskHeight);
    let begin = 0;
    for (let k = 0; k <= acts.length; k++) {
      if (k < acts.length && !FRESH.includes(acts[k].kind)) continue;
      this.drawStretch(pen, acts.slice(begin, k));
      if (k < acts.length) this.begin(pen, acts[k]);
      begin = k + 1;
    }
  }

  /** Acts between two beginnings: the base under the strokes, or over those that a click was to bring back. */
  drawStretch(pen, acts) {
    const last = acts.findLastIndex((act) => act.kind === "points");
    const base = acts.slice(0, last + 1).reverse().map((act) => this.bases.get(keyOf(act))).find((one) => one !== undefined);
    const put = () => last >= 0 && this.askable(acts[last]) && base && this.stamp(pen, base);
    if (last < 0 || !acts[last].over) put();
    acts.forEach((act, k) => {
      if (act.kind === "stroke") this.stroke(pen, act);
      if (act.kind === "rectangle") this.rectangle(pen, act);
      if (k === last && act.over) put();
    });
  }

  stamp(pen, { bitmap, left, top }) {
    pen.imageSmoothingEnabled = false;
    const s = this.scale;
    pen.drawImage(bitmap, left * s, top * s, bitmap.width * s, bitmap.height * s);
  }

  begin(pen, act) {
    if (act.kind !== "invert") pen.clearRect(0, 0, this.maskWidth, this.maskHeight);
    if (act.kind === "image") pen.drawImage(act.bitmap, act.left, act.top);
    if (act.kind === "invert") {
      pen.globalCompositeOperation = "xor";
      pen.fillRect(0, 0, this.maskWidth, this.maskHeight);
      pen.globalCompositeOperation = "source-over";
    }
  }

  rectangle(pen, { box }) {
    const [x0, y0, x1, y1] = box.map((value) => value * this.scale);
    pen.fillRect(x0, y0, x1 - x0, y1 - y0);
  }

  /** A round brush along a path; `from` leaves out what is drawn already. */
  stroke(pen, { path, radius, erase }, from = 0) {
    pen.save();
    pen.globalCompositeOperation = erase ? "destination-out" : "source-over";
    pen.scale(this.scale, this.scale);
    pen.lineCap = pen.lineJoin = "round";
    pen.lineWidth = 2 * radius;
    pen.beginPath();
    const start = Math.max(0, from - 1);
    pen.moveTo(...path[start]);
    for (const point of path.slice(start)) pen.lineTo(...point);
    pen.stroke();
    pen.restore();
  }

  /** Paint while the pointer moves; `act` the finished stroke afterwards. */
  paint(stroke, from) {
    this.painting = stroke;
    this.mask(this.active);
    this.stroke(this.layers.get(this.active.id).pen, stroke, from);
  }

  /** The stroke that `paint` drew becomes an act, and need not be drawn again. */
  painted(stroke) {
    this.painting = null;
    this.act(stroke);
  }

  covers(place, x, y) {
    const at = [Math.floor(x * this.scale), Math.floor(y * this.scale)];
    this.mask(place);
    return this.layers.get(place.id).pen.getImageData(...at, 1, 1).data[3] >= 128;
  }

  /** How a place's mask is shown, and a key that changes with it: grown and feathered by so many pixels of the photo
   * (`grow` null: as far as a removal does by itself), and while someone paints as it is. */
  shape(place, grow, feather) {
    const source = this.mask(place);
    const layer = this.layers.get(place.id);
    const plain = { source, key: [place.id, layer.version] };
    if (this.painting || (grow === 0 && !feather)) return plain;
    if (layer.measured !== layer.version) this.measure(layer, source);
    if (!layer.bounds) return plain;
    const { scale, bounds, pixels, small } = layer;
    const [left, top, right, bottom] = bounds;
    const by = grow ?? Math.max(2, (0.04 * Math.max(right - left, bottom - top)) / scale);
    const key = [place.id, layer.version, by, feather];
    if (layer.shown !== String(key)) {
      shaped(layer.signed, by * scale, (feather ?? 0) * scale, pixels.data);
      small.clearRect(0, 0, small.canvas.width, small.canvas.height);
      small.putImageData(pixels, ...layer.corner);
      layer.shown = String(key);
    }
    return { source: small.canvas, key };
  }

  /** Distances to a mask, in cells of a small canvas, as far around it as a slider reaches. */
  measure(layer, mask) {
    layer.measured = layer.version;
    layer.shown = "";
    layer.scale = Math.min(1, Math.sqrt(WATCHED / (this.width * this.height)));
    const [width, height] = [this.width, this.height].map((side) => Math.max(1, Math.round(side * layer.scale)));
    layer.small ??= context(width, height);
    layer.small.clearRect(0, 0, width, height);
    layer.small.drawImage(mask, 0, 0, width, height);
    layer.bounds = boundsOf(layer.small.getImageData(0, 0, width, height).data, width);
    if (!layer.bounds) return;
    const [left, top, right, bottom] = layer.bounds;
    const reach = Math.ceil(REACH * layer.scale + Math.max(REACH * layer.scale, 0.04 * Math.max(right - left, bottom - top))) + 2;
    const [x, y] = (layer.corner = [Math.max(0, left - reach), Math.max(0, top - reach)]);
    layer.pixels = layer.small.getImageData(x, y, Math.min(width, right + reach) - x, Math.min(height, bottom + reach) - y);
    layer.signed = signedDistance(layer.pixels.data, layer.pixels.width, layer.pixels.height);
  }

  /** A mask as rows of bits, each padded to whole bytes, deflated; null where it is empty. */
  async packed(place) {
    this.mask(place);
    const { pen } = this.layers.get(place.id);
    const across = Math.ceil(this.maskWidth / 8);
    const bits = new Uint8Array(across * this.maskHeight);
    let any = false;
    for (let top = 0; top < this.maskHeight; top += 256) {
      const rows = Math.min(256, this.maskHeight - top);
      const words = new Uint32Array(pen.getImageData(0, top, this.maskWidth, rows).data.buffer);
      for (let y = 0; y < rows; y++) {
        const row = (top + y) * across;
        for (let x = 0; x < this.maskWidth; x++) {
          if (words[y * this.maskWidth + x] >>> 31) { // the highest bit of alpha: half opaque and more
            bits[row + (x >> 3)] |= 128 >> (x & 7);
            any = true;
          }
        }
      }
    }
    if (!any) return null;
    return new Response(new Blob([bits]).stream().pipeThrough(new CompressionStream("deflate"))).blob();
  }
}
