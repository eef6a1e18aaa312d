// What is under way: progress by step, the forming picture, cancelling. News come as server-sent events.

import { bitmap, post } from "./api.js";
import { $, attempt, changed, desk, say, subject } from "./desk.js";
import { frame } from "./frame.js";
import { arrived, attentionArrived } from "./results.js";

const OPEN = ["waiting", "loading", "working"];
const runs = new Map();
const mine = new Map(); // runs that this page asked for: the photo that they are of, and what is added left of it and above

export function started(run) {
  if (!run) return;
  mine.set(run.run, { photo: subject()?.photo, added: desk.mode === "extend" ? frame().slice(0, 2) : [0, 0] });
  const told = runs.get(run.run); // news of a quick run come before the answer to its request
  if (told?.state === "done" && told.action !== "attention") arrived(told.result, true);
  else tell(run);
}

function tell(run) {
  const before = runs.get(run.run);
  if (before && !OPEN.includes(before.state)) return;
  runs.set(run.run, run);
  draw();
  if (OPEN.includes(run.state)) {
    if (run.preview && run.preview.number !== before?.preview?.number) watch(run);
    return;
  }
  if (desk.preview?.run === run.run) {
    desk.preview = null;
    changed();
  }
  if (run.state === "failed") say(run.message, true);
  if (run.state === "done" && run.action === "attention") attentionArrived(run.result);
  else if (run.state === "done") arrived(run.result, mine.has(run.run));
}

/** The forming picture, on the photo that it is of. */
async function watch({ run, action, preview }) {
  if (!mine.has(run) || desk.result || action === "attention") return;
  const { photo, added } = mine.get(run);
  if (photo !== subject()?.photo) return;
  try {
    const formed = await bitmap(`runs/${run}/preview/${preview.number}`);
    if (!OPEN.includes(runs.get(run).state)) return;
    desk.preview = { run, bitmap: formed, crop: preview.crop?.map((edge, k) => edge - added[k % 2]) };
    changed();
  } catch { /* it was over before it came */ }
}

const NAMES = { waiting: "Waiting", loading: "Getting ready", working: "Painting" };

function draw() {
  const open = [...runs.values()].filter(({ state }) => OPEN.includes(state));
  const list = $("runs");
  for (const row of [...list.children]) if (!open.some(({ run }) => String(run) === row.dataset.run)) row.remove();
  for (const run of open) {
    let row = list.querySelector(`[data-run="${run.run}"]`);
    if (!row) {
      row = document.createElement("div");
      row.className = "run";
      row.dataset.run = run.run;
      const bar = Object.assign(document.createElement("progress"), { max: 1, ariaLabel: "Progress" });
      const cancel = Object.assign(document.createElement("button"), { type: "button", textContent: "Cancel", title: "Escape" });
      cancel.addEventListener("click", () => attempt(() => post(`runs/${run.run}/cancel`)));
      row.append(document.createElement("span"), cancel, bar);
      list.append(row);
    }
    const [label, , bar] = row.children;
    const steps = run.total ? `, step ${run.done} of ${run.total}` : "";
    label.textContent = `${run.action === "attention" ? "Watching" : NAMES[run.state]}${steps} · ${run.prompt || "without words"}`;
    if (run.total) bar.value = run.done / run.total;
    else bar.removeAttribute("value");
  }
}

/** Cancel what was asked for first. */
export function cancelFirst() {
  const first = [...runs.values()].find(({ state }) => OPEN.includes(state));
  if (first) attempt(() => post(`runs/${first.run}/cancel`));
  return Boolean(first);
}

export function listen() {
  const source = new EventSource("events");
  source.addEventListener("runs", (event) => {
    for (const run of JSON.parse(event.data)) if (OPEN.includes(run.state) || runs.has(run.run)) tell(run);
  });
  source.addEventListener("run", (event) => tell(JSON.parse(event.data)));
}
