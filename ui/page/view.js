// The canvas: a picture at any zoom, with masks, points and a forming picture over it. Lengths are device pixels, so
// that at 100 % a pixel of the photo is one of the screen.

import { context } from "./places.js";

const LEAST = 0.02;
const MOST = 64;
const SLACK = 72; // pixels of the screen around a frame, into which its edges can be dragged

/** A picture at its size, half of it, a quarter …: what is drawn small is drawn from a small one. */
export async function pyramid(bitmap) {
  const levels = [{ bitmap, scale: 1 }];
  let { width, height } = bitmap;
  while (Math.max(width, height) > 1200) {
    [width, height] = [Math.max(1, Math.round(width / 2)), Math.max(1, Math.round(height / 2))];
    const last = levels.at(-1);
    const options = { resizeWidth: width, resizeHeight: height, resizeQuality: "low" }; // at a half the mean of four
    levels.push({ bitmap: await createImageBitmap(last.bitmap, options), scale: last.scale / 2 });
  }
  return levels;
}

export class View {
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d", { alpha: false });
    this.layer = context(1, 1);
    this.ring = context(1, 1);
    this.over = context(1, 1); // the masks as they were drawn last
    this.laid = "";
    this.width = this.height = 0; // of the photo, or of what is drawn upon
    this.scale = 1;
    this.x = this.y = 0;
    this.fitted = true;
    this.around = null; // pixels left of the photo, above, right and below, where it is to be made larger
    this.insets = { top: matchMedia("(pointer: coarse)").matches ? 68 : 56, bottom: 12 };
    this.scene = () => ({});
    this.asked = false;
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.watchDensity();
  }

  watchDensity() {
    const once = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
    once.addEventListener("change", () => { this.resize(); this.watchDensity(); }, { once: true });
  }

  resize() {
    const box = this.canvas.getBoundingClientRect();
    const [width, height] = [box.width, box.height].map((side) => Math.max(1, Math.round(side * devicePixelRatio)));
    for (const { canvas } of [this.pen, this.layer, this.ring, this.over]) {
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    }
    if (this.fitted) this.fit();
    this.redraw();
  }

  show(width, height, around = null) {
    const other = width !== this.width || height !== this.height || String(around) !== String(this.around);
    Object.assign(this, { width, height, around });
    if (other) this.fit();
    this.redraw();
  }

  fit() {
    if (!this.width) return;
    const { width, height } = this.canvas;
    const d = devicePixelRatio;
    const [left, top, right, bottom] = this.around ?? [0, 0, 0, 0];
    const [across, down] = [this.width + left + right, this.height + top + bottom];
    const slack = this.around ? SLACK * d : 0;
    const room = height - (this.insets.top + this.insets.bottom) * d;
    this.scale = Math.min((width - 24 * d - 2 * slack) / across, (room - 2 * slack) / down, MOST);
    this.scale = Math.max(this.scale, 1e-3);
    this.x = Math.round((width - across * this.scale) / 2 + left * this.scale);
    this.y = Math.round(this.insets.top * d + (room - down * this.scale) / 2 + top * this.scale);
    this.fitted = true;
    this.redraw();
  }

  /** Zoom so that what is under a point of the window stays there; in the middle without one. */
  zoom(scale, at = this.middle()) {
    const [px, py] = this.device(at);
    const next = Math.min(MOST, Math.max(LEAST, scale));
    this.x = px - (px - this.x) * (next / this.scale);
    this.y = py - (py - this.y) * (next / this.scale);
    this.scale = next;
    this.fitted = false;
    this.keep();
  }

  pan(dx, dy) {
    this.x += dx * devicePixelRatio;
    this.y += dy * devicePixelRatio;
    this.fitted = false;
    this.keep();
  }

  /** Some of the photo stays in sight; whole device pixels keep 100 % sharp. */
  keep() {
    const margin = 40 * devicePixelRatio;
    this.x = Math.min(this.canvas.width - margin, Math.max(margin - this.width * this.scale, this.x));
    this.y = Math.min(this.canvas.height - margin, Math.max(margin - this.height * this.scale, this.y));
    if (this.scale === 1) [this.x, this.y] = [Math.round(this.x), Math.round(this.y)];
    this.redraw();
  }

  middle() {
    const box = this.canvas.getBoundingClientRect();
    return { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 };
  }

  /** The middle of the screen's pixel that a pointer is on, from the canvas's left upper corner. */
  device({ clientX, clientY }) {
    const box = this.canvas.getBoundingClientRect();
    return [
      Math.floor((clientX - box.left) * (this.canvas.width / box.width)) + 0.5,
      Math.floor((clientY - box.top) * (this.canvas.height / box.height)) + 0.5,
    ];
  }

  /** A point of the window in the photo's coordinates; pixel k reaches from k to k + 1. */
  photo(at) {
    const [px, py] = this.device(at);
    return [(px - this.x) / this.scale, (py - this.y) / this.scale];
  }

  window(x, y) {
    return [this.x + x * this.scale, this.y + y * this.scale];
  }

  contains(x, y) {
    return x >= 0 && y >= 0 && x < this.width && y < this.height;
  }

  redraw() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.draw(this.scene());
    });
  }

  draw(scene) {
    const { pen } = this;
    const style = getComputedStyle(document.documentElement);
    pen.fillStyle = style.getPropertyValue("--ground");
    pen.fillRect(0, 0, pen.canvas.width, pen.canvas.height);
    if (this.width) this.drawScene(scene, style);
    scene.drawn?.();
  }

  drawScene(scene, style) {
    const { pen } = this;
    const area = [this.x, this.y, this.width * this.scale, this.height * this.scale];
    if (scene.frame) this.beyond(scene.frame, style);
    if (scene.frame && scene.preview) this.preview(scene);
    if (scene.picture) this.picture(scene.picture);
    else {
      pen.fillStyle = "#fff";
      pen.fillRect(...area);
    }
    if (scene.frame) this.edges(scene.frame, style);
    else if (scene.preview) this.preview(scene);
    if (scene.before && scene.split) this.wipe(scene.before, scene.split, style);
    if (scene.masks?.length) this.masks(scene.masks, Boolean(scene.preview));
    for (const place of scene.points ?? []) this.points(place);
    if (scene.box) this.box(scene.box, scene.colour);
    if (scene.brush) this.circle(scene.brush);
    if (scene.cross) this.cross(scene.cross);
  }

  picture(levels, [left, top, width, height] = [0, 0, this.width, this.height]) {
    const { pen } = this;
    const { bitmap } = levels.findLast((level) => level.scale >= this.scale) ?? levels[0];
    pen.imageSmoothingEnabled = this.scale < 2;
    pen.imageSmoothingQuality = "low";
    pen.drawImage(bitmap, ...this.window(left, top), width * this.scale, height * this.scale);
  }

  /** What was there before, and where it stands, left of a line. */
  wipe({ levels, area }, split, style) {
    const { pen } = this;
    const at = this.x + this.width * this.scale * split;
    pen.save();
    pen.beginPath();
    pen.rect(0, 0, at, pen.canvas.height);
    pen.clip();
    pen.fillStyle = style.getPropertyValue("--ground");
    pen.fillRect(0, 0, pen.canvas.width, pen.canvas.height);
    this.picture(levels, area);
    pen.restore();
    if (split > 0 && split < 1) {
      pen.fillStyle = style.getPropertyValue("--accent");
      pen.fillRect(at - devicePixelRatio, this.y, 2 * devicePixelRatio, this.height * this.scale);
    }
  }

  /** What is to be added around the photo. */
  beyond(frame, style) {
    this.pen.fillStyle = style.getPropertyValue("--raised");
    this.pen.fillRect(...this.outline(frame));
  }

  outline([left, top, right, bottom]) {
    return [...this.window(-left, -top), (this.width + left + right) * this.scale, (this.height + top + bottom) * this.scale];
  }

  /** The edges of the frame, with a grip in the middle of each. */
  edges(frame, style) {
    const { pen } = this;
    const d = devicePixelRatio;
    const [x, y, width, height] = this.outline(frame);
    pen.strokeStyle = pen.fillStyle = style.getPropertyValue("--accent");
    pen.lineWidth = 1.5 * d;
    pen.strokeRect(x, y, width, height);
    for (const [px, py, upright] of [[x, y + height / 2, 1], [x + width, y + height / 2, 1], [x + width / 2, y, 0], [x + width / 2, y + height, 0]]) {
      const [across, down] = upright ? [6 * d, 36 * d] : [36 * d, 6 * d];
      pen.beginPath();
      pen.roundRect(px - across / 2, py - down / 2, across, down, 3 * d);
      pen.fill();
    }
  }

  /** The forming picture, where the masks are. */
  preview({ preview, masks = [] }) {
    const { layer } = this;
    const [left, top, right, bottom] = preview.crop ?? [0, 0, this.width, this.height];
    this.clear(layer);
    for (const { source } of masks) this.lay(layer, source);
    if (masks.length) layer.globalCompositeOperation = "source-in";
    layer.imageSmoothingEnabled = true;
    layer.drawImage(preview.bitmap, ...this.window(left, top), (right - left) * this.scale, (bottom - top) * this.scale);
    layer.globalCompositeOperation = "source-over";
    this.pen.drawImage(layer.canvas, 0, 0);
  }

  clear(pen) {
    pen.globalCompositeOperation = "source-over";
    pen.clearRect(0, 0, pen.canvas.width, pen.canvas.height);
  }

  lay(pen, source) {
    pen.imageSmoothingEnabled = true;
    pen.imageSmoothingQuality = "low";
    pen.drawImage(source, this.x, this.y, this.width * this.scale, this.height * this.scale);
  }

  /** All masks, drawn anew only where something about them changed. */
  masks(masks, bare) {
    const { over, x, y, scale } = this;
    const { width, height } = over.canvas;
    const looks = JSON.stringify([x, y, scale, width, height, bare, masks.map(({ key, colour, active }) => [key, colour, active])]);
    if (looks !== this.laid) {
      this.clear(over);
      for (const { source, colour, active } of masks) this.mask(source, colour, active, bare);
      this.laid = looks;
    }
    this.pen.drawImage(over.canvas, 0, 0);
  }

  /** A tint where the mask is, and a line around it. */
  mask(source, colour, active, bare) {
    const { over, layer, ring } = this;
    const d = devicePixelRatio * (active ? 1.5 : 1);
    this.clear(layer);
    this.lay(layer, source);
    this.clear(ring);
    for (let k = 0; k < 8; k++) {
      // by whole pixels: copied, not interpolated, which takes ten times as long
      ring.drawImage(layer.canvas, Math.round(d * Math.cos((k * Math.PI) / 4)), Math.round(d * Math.sin((k * Math.PI) / 4)));
    }
    ring.globalCompositeOperation = "destination-out";
    ring.drawImage(layer.canvas, 0, 0);
    for (const one of [layer, ring]) {
      one.globalCompositeOperation = "source-in";
      one.fillStyle = colour;
      one.fillRect(0, 0, one.canvas.width, one.canvas.height);
    }
    over.globalAlpha = bare ? 0 : active ? 0.42 : 0.28;
    over.drawImage(layer.canvas, 0, 0);
    over.globalAlpha = 1;
    over.drawImage(ring.canvas, 0, 0);
  }

  points({ points, box, colour }) {
    const { pen } = this;
    const d = devicePixelRatio;
    if (box) this.box(box, colour);
    for (const [x, y, label] of points) {
      const [px, py] = this.window(x + 0.5, y + 0.5);
      pen.beginPath();
      pen.arc(px, py, 7 * d, 0, 7);
      pen.fillStyle = label ? colour : "#fff";
      pen.fill();
      pen.lineWidth = 2 * d;
      pen.strokeStyle = label ? "#fff" : colour;
      pen.stroke();
      pen.fillStyle = label ? "#fff" : colour;
      pen.fillRect(px - 3.5 * d, py - 0.75 * d, 7 * d, 1.5 * d);
      if (label) pen.fillRect(px - 0.75 * d, py - 3.5 * d, 1.5 * d, 7 * d);
    }
  }

  box([x0, y0, x1, y1], colour) {
    const { pen } = this;
    const [left, top] = this.window(x0, y0);
    const [right, bottom] = this.window(x1, y1);
    pen.lineWidth = 3.5 * devicePixelRatio;
    pen.strokeStyle = "rgb(255 255 255 / .8)";
    pen.strokeRect(left, top, right - left, bottom - top);
    pen.lineWidth = 1.5 * devicePixelRatio;
    pen.strokeStyle = colour;
    pen.strokeRect(left, top, right - left, bottom - top);
  }

  circle({ x, y, radius }) {
    const { pen } = this;
    for (const [width, colour] of [[3, "rgb(0 0 0 / .5)"], [1.25, "#fff"]]) {
      pen.beginPath();
      pen.arc(...this.window(x, y), Math.max(radius * this.scale, 1), 0, 7);
      pen.lineWidth = width * devicePixelRatio;
      pen.strokeStyle = colour;
      pen.stroke();
    }
  }

  cross([x, y]) {
    const { pen } = this;
    const [px, py] = this.window(x + 0.5, y + 0.5);
    for (const [width, colour] of [[4, "rgb(0 0 0 / .55)"], [1.5, "#fff"]]) {
      pen.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        pen.moveTo(px + 4 * dx * devicePixelRatio, py + 4 * dy * devicePixelRatio);
        pen.lineTo(px + 16 * dx * devicePixelRatio, py + 16 * dy * devicePixelRatio);
      }
      pen.lineWidth = width * devicePixelRatio;
      pen.strokeStyle = colour;
      pen.stroke();
    }
  }
}
