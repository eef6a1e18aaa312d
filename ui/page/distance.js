// Euclidean distances on a small grid, so that growing and feathering a mask can be watched while a slider moves.
// Felzenszwalb, Huttenlocher: "Distance Transforms of Sampled Functions", 2012: one pass down, one across.

const FAR = 1e20;

function squared(values, count, step, start, scratch) {
  const { f, v, z } = scratch;
  for (let q = 0; q < count; q++) f[q] = values[start + q * step];
  let k = 0;
  v[0] = 0;
  z[0] = -FAR;
  z[1] = FAR;
  for (let q = 1; q < count; q++) {
    let s;
    do {
      const r = v[k];
      s = (f[q] - f[r] + q * q - r * r) / (2 * (q - r));
    } while (s <= z[k] && --k > -1);
    k++;
    v[k] = q;
    z[k] = s;
    z[k + 1] = FAR;
  }
  k = 0;
  for (let q = 0; q < count; q++) {
    while (z[k + 1] < q) k++;
    const r = v[k];
    values[start + q * step] = f[r] + (q - r) * (q - r);
  }
}

function distances(zero, width, height) {
  const values = new Float64Array(width * height);
  for (let i = 0; i < values.length; i++) values[i] = zero(i) ? 0 : FAR;
  const longest = Math.max(width, height);
  const scratch = { f: new Float64Array(longest), v: new Int32Array(longest), z: new Float64Array(longest + 1) };
  for (let x = 0; x < width; x++) squared(values, height, width, x, scratch);
  for (let y = 0; y < height; y++) squared(values, width, 1, y * width, scratch);
  return values;
}

/** Left, top, right and bottom (exclusive) of what is at least half opaque, null where nothing is. */
export function boundsOf(alpha, width) {
  let [left, top, right, bottom] = [width, -1, 0, 0];
  for (let i = 0; 4 * i < alpha.length; i++) {
    if (alpha[4 * i + 3] < 128) continue;
    const x = i % width;
    bottom = (i - x) / width + 1;
    if (top < 0) top = bottom - 1;
    if (x < left) left = x;
    if (x >= right) right = x + 1;
  }
  return top < 0 ? null : [left, top, right, bottom];
}

/** Each cell's distance to the mask, negative inside of it; `alpha` are the bytes of an ImageData. */
export function signedDistance(alpha, width, height) {
  const outside = distances((i) => alpha[4 * i + 3] >= 128, width, height);
  const inside = distances((i) => alpha[4 * i + 3] < 128, width, height);
  const signed = new Float32Array(width * height);
  for (let i = 0; i < signed.length; i++) signed[i] = outside[i] ? Math.sqrt(outside[i]) : -Math.sqrt(inside[i]) + 1;
  return signed;
}

/** Opacity of each cell: full where the mask, grown, lies, then fading out. Lengths are in cells. */
export function shaped(signed, grow, feather, pixels) {
  for (let i = 0; i < signed.length; i++) {
    const beyond = signed[i] - grow;
    const near = beyond <= 0 ? 1 : feather > 0 ? Math.max(0, 1 - beyond / feather) : 0;
    pixels[4 * i + 3] = 255 * near * near * (3 - 2 * near);
  }
}
