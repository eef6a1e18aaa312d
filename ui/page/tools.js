// Pointer and keys on the canvas: pointing, boxes, brush, eraser, moving and zooming.

import { $, attempt, board, brushRadius, changed, desk, find, lookAtPlaces, point } from "./desk.js";
import { cursor, drag, frame, grasped } from "./frame.js";

const NEAR = 10; // pixels of the screen: a click that near a point means the point
const STILL = 5; // pixels that a click may tremble

const TOOLS = [
  { name: "point", label: "Point or box", key: "p", icon: "M12 3v5M12 16v5M3 12h5M16 12h5", hint: "Click on the thing, or drag a box around it. Right click: not this." },
  { name: "brush", label: "Brush", key: "b", icon: "M4 20c3 0 5-1 5-4l9-11a1.8 1.8 0 0 1 2.6 2.4L11 17M9 16l2 2", hint: "Paint over the place. [ and ] change the size." },
  { name: "eraser", label: "Eraser", key: "e", icon: "M8 19h12M5 16 14 6l5 5-7 8H8z", hint: "Take away from the mask." },
  { name: "hand", label: "Move", key: "h", icon: "M12 3v18M3 12h18M12 3l-2 2M12 3l2 2M12 21l-2-2M12 21l2-2M3 12l2-2M3 12l2 2M21 12l-2-2M21 12l-2 2", hint: "Drag to move, scroll to zoom." },
];

const ICONS = {
  undo: "M9 14 4 9l5-5M4 9h10a6 6 0 0 1 0 12h-3",
  redo: "m15 14 5-5-5-5M20 9H10a6 6 0 0 0 0 12h3",
  invert: "M12 3a9 9 0 0 0 0 18zM12 3a9 9 0 0 1 0 18",
  clear: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10 11v6M14 11v6",
  "show-mask": "M2 12s4-7 10-7 10 7 10 7-4 7-10 7S2 12 2 12M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6",
};

export const SHORTCUTS = [
  ["Click, Shift or right click", "this, not this; a click on a point takes it away"],
  ["P  B  E  H", "point or box, brush, eraser, move"],
  ["[  ]", "smaller, larger brush"],
  ["Ctrl Z, Ctrl Shift Z", "undo, redo"],
  ["I, Delete, M", "invert the mask, clear it, show or hide it"],
  ["Hold O", "the original"],
  ["← →", "candidates, best first"],
  ["+  −  0  1", "zoom in, out, all of it, 100 %"],
  ["Hold Space, middle button, two fingers", "move"],
  ["Ctrl Enter, Escape", "run, cancel"],
  ["Ctrl V, Ctrl C", "paste a photo, copy the picture"],
  ["Backspace", "back to the mask"],
];

const canvas = $("canvas");
const pointers = new Map();
let gesture = null; // { kind, ... } while a pointer is down
let spaced = false;

function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

export function setTool(name) {
  desk.tool = name;
  document.querySelector(`input[name=tool][value=${name}]`).checked = true;
  $("sense").hidden = name !== "point" || !(desk.mode in desk.sliders);
  $("brush").hidden = desk.mode === "extend" || !["brush", "eraser"].includes(name);
  $("tool-hint").textContent = hint(name);
  canvas.style.cursor = desk.mode === "extend" ? "grab" : { point: "crosshair", brush: "none", eraser: "none", hand: "grab" }[name];
  if (!["brush", "eraser"].includes(name)) desk.brush = null;
  changed();
}

function hint(name) {
  if (desk.mode === "extend") return "Drag an edge of the photo outwards, or say how much to add.";
  if (desk.mode === "generate" && name === "point") return "Drag a box, or paint, where something stands.";
  return TOOLS.find((tool) => tool.name === name).hint;
}

/** A click on pixel x, y: a new point, or the end of one that is there. */
export function click(x, y, label) {
  if (!(desk.mode in desk.sliders) || !desk.photo) return;
  if (desk.result) lookAtPlaces();
  if (!desk.view.contains(x, y)) return;
  const pixel = [Math.floor(x), Math.floor(y)];
  const { points } = board().pointed();
  const reach = (NEAR * devicePixelRatio) / desk.view.scale;
  const hit = points.findIndex(([px, py]) => Math.hypot(px + 0.5 - x, py + 0.5 - y) <= reach);
  if (hit >= 0) point({ points: points.filter((_, k) => k !== hit) });
  else point({ points: [...points, [...pixel, label]] }, label ? pixel : null);
}

function box(x0, y0, x1, y1) {
  const { width, height } = board();
  const inside = [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)].map((value, k) =>
    Math.round(Math.min(k % 2 ? height : width, Math.max(0, value))),
  );
  if (inside[2] - inside[0] < 1 || inside[3] - inside[1] < 1) return;
  if (desk.mode === "generate") board().act({ kind: "rectangle", box: inside });
  else point({ box: inside });
}

const sense = (event) => {
  const chosen = Number(document.querySelector("input[name=sense]:checked").value);
  return event.button === 2 || event.shiftKey ? 1 - chosen : chosen;
};

function begin(event) {
  const at = desk.view.photo(event);
  const sides = extending() && event.button === 0 && !spaced ? grasped(event) : [];
  if (sides.length) return { kind: "frame", sides, begun: { frame: frame(), at } };
  const moves = desk.tool === "hand" || spaced || event.button === 1 || (desk.result && desk.tool !== "point");
  if (moves || !fits()) return { kind: "pan" };
  if (desk.tool === "point") return { kind: "point", at, event, label: sense(event) };
  const stroke = { kind: "stroke", erase: desk.tool === "eraser" || event.button === 2, radius: brushRadius(), path: [at] };
  board().paint(stroke, 0);
  return { kind: "stroke", stroke };
}

const extending = () => desk.mode === "extend" && desk.photo && !desk.result;

/** Whether what is looked at is as large as what is drawn upon. */
const fits = () => board()?.width === desk.view.width && board().height === desk.view.height;

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, event);
  desk.cross = null;
  if (pointers.size === 2) {
    drop();
    gesture = { kind: "pinch" };
  } else if (pointers.size === 1 && event.button <= 2) gesture = begin(event);
  if (event.button === 1) event.preventDefault();
  changed();
});

canvas.addEventListener("pointermove", (event) => {
  const { view } = desk;
  if (["brush", "eraser"].includes(desk.tool) && event.pointerType !== "touch" && !desk.result) {
    const [x, y] = view.photo(event);
    desk.brush = { x, y };
    view.redraw();
  }
  const before = pointers.get(event.pointerId);
  if (!gesture && extending()) canvas.style.cursor = cursor(grasped(event));
  if (!before || !gesture) return;
  pointers.set(event.pointerId, event);
  if (gesture.kind === "pinch" && pointers.size === 2) pinch(before, event);
  else if (gesture.kind === "frame") {
    drag(gesture.sides, gesture.begun, view.photo(event));
    view.redraw();
  } else if (gesture.kind === "pan") view.pan(event.clientX - before.clientX, event.clientY - before.clientY);
  else if (gesture.kind === "point") {
    const moved = Math.hypot(event.clientX - gesture.event.clientX, event.clientY - gesture.event.clientY);
    if (moved > STILL) desk.drag = [...gesture.at, ...view.photo(event)];
    view.redraw();
  } else if (gesture.kind === "stroke") {
    const { stroke } = gesture;
    const known = stroke.path.length;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const one of events.length ? events : [event]) stroke.path.push(view.photo(one));
    board().paint(stroke, known);
    view.redraw();
  }
});

function pinch(before, event) {
  const other = [...pointers.values()].find((one) => one.pointerId !== event.pointerId);
  const middle = (one) => ({ clientX: (one.clientX + other.clientX) / 2, clientY: (one.clientY + other.clientY) / 2 });
  const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
  const [was, is] = [middle(before), middle(event)];
  desk.view.pan(is.clientX - was.clientX, is.clientY - was.clientY);
  desk.view.zoom(desk.view.scale * (apart(event) / Math.max(1, apart(before))), is);
}

canvas.addEventListener("pointerup", (event) => {
  pointers.delete(event.pointerId);
  const done = gesture;
  if (gesture?.kind !== "pinch" || !pointers.size) gesture = null;
  if (done?.kind === "point") {
    const { drag } = desk;
    desk.drag = null;
    if (!drag) click(...done.at, done.label);
    else {
      if (desk.result) lookAtPlaces();
      box(...drag);
    }
  }
  if (done?.kind === "stroke") board().painted(done.stroke);
  if (done?.kind === "frame" && desk.view.fitted) desk.view.fit();
  changed();
});

canvas.addEventListener("pointercancel", (event) => {
  pointers.delete(event.pointerId);
  drop();
});

/** Leave what a finger had begun. */
function drop() {
  if (gesture?.kind === "stroke") board().painted(gesture.stroke), board().undo();
  gesture = null;
  desk.drag = null;
}

canvas.addEventListener("pointerleave", () => {
  desk.brush = null;
  desk.view.redraw();
});
canvas.addEventListener("contextmenu", (event) => event.preventDefault());
canvas.addEventListener("blur", changed);
canvas.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode ? 30 : 1);
    desk.view.zoom(desk.view.scale * Math.exp(-Math.max(-240, Math.min(240, pixels)) / 300), event);
  },
  { passive: false },
);

/** The cross that arrow keys move. */
function steer(event, dx, dy) {
  const { view } = desk;
  const far = event.shiftKey ? 10 : 1;
  const [x, y] = desk.cross ?? [Math.floor(view.width / 2), Math.floor(view.height / 2)];
  const within = (value, most) => Math.min(most - 1, Math.max(0, value));
  desk.cross = desk.cross ? [within(x + dx * far, view.width), within(y + dy * far, view.height)] : [x, y];
  changed();
}

function press(event) {
  if (!desk.cross) return steer(event, 0, 0);
  const [x, y] = desk.cross;
  if (desk.tool === "point") return click(x + 0.5, y + 0.5, event.shiftKey ? 0 : 1);
  if (["brush", "eraser"].includes(desk.tool)) {
    const stroke = { kind: "stroke", erase: desk.tool === "eraser", radius: brushRadius(), path: [[x + 0.5, y + 0.5]] };
    board().act(stroke);
  }
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

canvas.addEventListener("keydown", (event) => {
  if (desk.result || !board() || event.ctrlKey || event.metaKey) return;
  if (ARROWS[event.key]) steer(event, ...ARROWS[event.key]);
  else if (event.key === "Enter") press(event);
  else return;
  event.preventDefault();
  event.stopPropagation();
});

/** Undo and redo may bring back points whose mask was never found. */
export function step(way) {
  if (!board()) return;
  if (desk.result) lookAtPlaces();
  board()[way]();
  if (desk.mode !== "generate") find();
}

export function invert() {
  if (board()) board().act({ kind: "invert" });
}

export function clear() {
  if (board()?.active.acts.length) board().act({ kind: "clear" });
}

export function showMask(shown = !desk.masked) {
  desk.masked = shown;
  $("show-mask").setAttribute("aria-pressed", String(shown));
  changed();
}

/** Whether an event is of a field that one types in. */
export const typing = (event) => event.target.closest?.("input:not([type=range], [type=radio], [type=checkbox]), textarea, select, dialog");

document.addEventListener("keydown", (event) => {
  const { view } = desk;
  if (typing(event)) return;
  const letter = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) {
    if (letter === "z") step(event.shiftKey ? "redo" : "undo");
    else if (letter === "y") step("redo");
    else return;
    event.preventDefault();
    return;
  }
  if (event.altKey) return;
  const tool = TOOLS.find(({ key }) => key === letter);
  const size = $("brush-size");
  if (tool) setTool(tool.name);
  else if (letter === "[" || letter === "]") {
    size.value = Number(size.value) * (letter === "[" ? 0.85 : 1.18) + (letter === "[" ? -0.5 : 0.5);
    view.redraw();
  } else if (letter === "i") invert();
  else if (event.key === "Delete") clear();
  else if (letter === "m") showMask();
  else if (letter === "o" && !event.repeat) hold(true);
  else if (letter === "+" || letter === "=") view.zoom(view.scale * 1.25);
  else if (letter === "-") view.zoom(view.scale / 1.25);
  else if (letter === "0") view.fit();
  else if (letter === "1") view.zoom(1);
  else if (event.key === " " && event.target === canvas) spaced = true;
  else if (event.key === "Backspace" && desk.result) lookAtPlaces();
  else if (letter === "?") $("help-box").showModal();
  else return;
  event.preventDefault();
});

document.addEventListener("keyup", (event) => {
  if (event.key.toLowerCase() === "o") hold(false);
  if (event.key === " ") spaced = false;
});

function hold(held) {
  desk.original = held;
  changed();
}

export function drawTools() {
  for (const { name, label, key, icon: path } of TOOLS) {
    const item = document.createElement("label");
    item.title = `${label} (${key.toUpperCase()})`;
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "tool", value: name, ariaLabel: label });
    input.addEventListener("change", () => setTool(name));
    const face = document.createElement("span");
    face.append(icon(path));
    item.append(input, face);
    $("tools").append(item);
  }
  for (const [name, path] of Object.entries(ICONS)) $(name).append(icon(path));
  $("undo").addEventListener("click", () => step("undo"));
  $("redo").addEventListener("click", () => step("redo"));
  $("invert").addEventListener("click", invert);
  $("clear").addEventListener("click", clear);
  $("show-mask").addEventListener("click", () => showMask());
  $("zoom-in").addEventListener("click", () => desk.view.zoom(desk.view.scale * 1.25));
  $("zoom-out").addEventListener("click", () => desk.view.zoom(desk.view.scale / 1.25));
  $("zoom-100").addEventListener("click", () => desk.view.zoom(1));
  $("zoom-fit").addEventListener("click", () => desk.view.fit());
  $("find-text").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    if (event.target.value.trim() && desk.photo) attempt(() => point({ points: [], box: null, text: event.target.value.trim() }));
  });
  setTool("point");
}
