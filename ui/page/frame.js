// The frame of a photo that is to be made larger: the fields of its sides, and edges that are dragged outwards.

import { desk } from "./desk.js";

const SIDES = ["left", "top", "right", "bottom"];

/** What a side's field adds to a length of the photo, in pixels, rounded as Python does. */
function extent(text, length) {
  const [, number, share] = /^(\d+(?:\.\d+)?)(%?)$/.exec(text.trim()) ?? [0, 0, ""];
  if (!share) return Math.floor(Number(number));
  const exact = (Number(number) / 100) * length;
  const rounded = Math.round(exact);
  return rounded - exact === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

/** Pixels around a photo, at its left, top, right and bottom, as fields say them. */
export const margins = (photo, field) => SIDES.map((side, k) => extent(field(side) ?? "", k % 2 ? photo.height : photo.width));

/** The frame that the form asks for. */
export const frame = () => margins(desk.photo, (side) => desk.forms.extend.get(side));

/** The numbers of the sides that a pointer is on: none, one, or the two of a corner. */
export function grasped(event) {
  const { view, photo } = desk;
  const [left, top, right, bottom] = frame();
  const reach = (event.pointerType === "touch" ? 28 : 12) * devicePixelRatio;
  const at = view.device(event);
  const [from, to] = [view.window(-left, -top), view.window(photo.width + right, photo.height + bottom)];
  if (at.some((value, k) => value < from[k] - reach || value > to[k] + reach)) return [];
  return [0, 1].flatMap((k) => {
    const [near, far] = [Math.abs(at[k] - from[k]), Math.abs(at[k] - to[k])];
    if (Math.min(near, far) > reach) return [];
    return [near < far ? k : k + 2];
  });
}

/** Move sides to where a pointer is; `begun` is what `frame` said and where the pointer was when it took hold. */
export function drag(sides, begun, at) {
  for (const side of sides) {
    const moved = (at[side % 2] - begun.at[side % 2]) * (side < 2 ? -1 : 1);
    desk.forms.extend.set(SIDES[side], String(Math.max(0, Math.round(begun.frame[side] + moved))));
  }
  desk.view.around = frame();
}

/** The pointer's shape over sides. */
export function cursor([one, other]) {
  if (one === undefined) return "grab";
  if (other === undefined) return one % 2 ? "ns-resize" : "ew-resize";
  return (one === 0) === (other === 1) ? "nwse-resize" : "nesw-resize";
}
