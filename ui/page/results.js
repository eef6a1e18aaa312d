// Results: the history, the candidates of the one that is looked at, and what can be done with them.

import { get, post } from "./api.js";
import { $, attempt, changed, desk, lookAt, lookAtPlaces, openPhoto, restore, say } from "./desk.js";

let entries = [];
let shown = 0; // of the requests to look at something only the last counts

/** Whether this request is still the last one, to be asked when its answer has come. */
function turn() {
  const mine = ++shown;
  return () => mine === shown;
}

const address = ({ entry, number } = desk.result) => `results/${entry.result}/${number}`;

export async function readHistory() {
  entries = await get("history");
  drawHistory();
}

function tile(list, { path, label, chosen, act }) {
  const item = document.createElement("li");
  item.role = "option";
  item.ariaLabel = label;
  item.title = label;
  item.ariaSelected = String(chosen);
  const image = Object.assign(new Image(), { alt: "", loading: "lazy", decoding: "async", src: path });
  item.append(image);
  item.addEventListener("click", act);
  list.append(item);
  return item;
}

function drawHistory() {
  const list = $("history");
  list.replaceChildren();
  for (const entry of entries) {
    const item = tile(list, {
      path: `results/${entry.result}/0/small`,
      label: entry.prompt || "without words",
      chosen: desk.result?.entry.result === entry.result,
      act: () => open(entry),
    });
    if (entry.pictures.length > 1) item.append(Object.assign(document.createElement("small"), { textContent: entry.pictures.length }));
  }
}

/** Look at a result, and first bring back its photo, masks, words and settings; if a file is gone, none of them. */
export async function open(entry) {
  const current = turn();
  await attempt(() => restore(entry, current));
  if (current()) await look(entry, 0);
}

export const look = (entry, number) => attempt(async () => {
  const current = turn();
  await lookAt(entry, number, current);
  if (current()) drawResult();
});

/** A run that this page asked for is done: its result, unless another photo is on the desk by now. */
export async function arrived(name, asked) {
  await attempt(readHistory);
  const entry = entries.find(({ result }) => result === name);
  if (entry && asked && (entry.action === "generate" || entry.photo === desk.photo?.photo)) await look(entry, 0);
}

function drawResult() {
  const { result } = desk;
  $("result").hidden = !result;
  for (const item of $("history").children) item.ariaSelected = "false";
  if (result) fillResult(result);
  desk.view.insets.bottom = result ? $("result").offsetHeight + 24 : 12;
  if (desk.view.fitted) desk.view.fit();
}

function fillResult(result) {
  const { entry, number } = result;
  const at = entries.findIndex((one) => one.result === entry.result);
  if (at >= 0) {
    $("history").children[at].ariaSelected = "true";
    $("history").children[at].scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  const list = $("candidates");
  list.replaceChildren();
  entry.pictures.forEach(({ seed, score }, k) => {
    const label = `Candidate ${k + 1}, seed ${seed}${score === null ? "" : `, score ${score.toFixed(2)}`}`;
    tile(list, { path: `results/${entry.result}/${k}/small`, label, chosen: k === number, act: () => look(entry, k) });
  });
  list.children[number].scrollIntoView({ block: "nearest", inline: "nearest" });
  $("compare").hidden = !result.before;
  $("attention").hidden = !entry.prompt;
  const { seed, width, height } = entry.pictures[number];
  $("notes").textContent = [`Seed ${seed}`, `${width} × ${height}`, ...entry.notes].join(" · ");
  $("notes").title = entry.notes.join("\n");
}

function neighbour(way) {
  const { entry, number } = desk.result;
  const next = number + way;
  if (next >= 0 && next < entry.pictures.length) look(entry, next);
}

document.addEventListener("keydown", (event) => {
  if (!desk.result || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
  if (event.target.closest("input, textarea, select, dialog, #history")) return;
  neighbour(event.key === "ArrowLeft" ? -1 : 1);
  event.preventDefault();
});

$("history").addEventListener("keydown", (event) => {
  const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!way || !entries.length) return;
  const now = entries.findIndex((entry) => entry.result === desk.result?.entry.result);
  const next = Math.min(entries.length - 1, Math.max(0, now + way));
  event.preventDefault();
  open(entries[next]);
});

async function copyText(text, what) {
  await navigator.clipboard.writeText(text);
  say(`${what} copied.`);
}

/** The picture onto the clipboard, as PNG. */
export const copyPicture = () => attempt(async () => {
  const { bitmap } = (desk.result?.levels ?? desk.photo.levels)[0];
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  await navigator.clipboard.write([new ClipboardItem({ "image/png": canvas.convertToBlob({ type: "image/png" }) })]);
  say("Picture copied.");
});

export async function showAttention(ask = true) {
  const at = address();
  const names = await get(`${at}/attention`);
  $("attention-box").dataset.of = at;
  $("attention-pictures").replaceChildren(...names.map((name) => {
    const figure = document.createElement("figure");
    const word = name.replace(/^\d+-|\.png$/g, "");
    figure.classList.toggle("wide", word === "steps");
    const caption = word === "steps" ? "step by step" : word;
    figure.append(
      Object.assign(new Image(), { src: `${at}/attention/${encodeURIComponent(name)}`, alt: `Attention to ${caption}` }),
      Object.assign(document.createElement("figcaption"), { textContent: caption }),
    );
    return figure;
  }));
  $("attention-state").textContent = names.length ? "Bright is where the word was looked for most." : "The picture is made once more, to watch.";
  if (!names.length && ask) await post(`${at}/attention`);
  if (!$("attention-box").open) $("attention-box").showModal();
}

/** Attention pictures were made: show them where they are waited for. */
export function attentionArrived(name) {
  if ($("attention-box").open && $("attention-box").dataset.of.startsWith(`results/${name}/`)) attempt(() => showAttention(false));
}

export function wireResults(started) {
  desk.listeners.add(() => { if (!desk.result && !$("result").hidden) drawResult(); });
  $("back").addEventListener("click", lookAtPlaces);
  $("split").addEventListener("input", () => {
    desk.split = Number($("split").value) / 100;
    changed();
  });
  $("more").addEventListener("click", () => attempt(async () => started(await post(`results/${desk.result.entry.result}/more`))));
  $("continue").addEventListener("click", () => attempt(async () => openPhoto(await post(`${address()}/open`))));
  $("attention").addEventListener("click", () => attempt(showAttention));
  $("download").addEventListener("click", () => {
    const { entry, number } = desk.result;
    Object.assign(document.createElement("a"), { href: `${address()}?download`, download: entry.pictures[number].name }).click();
  });
  $("recipe").addEventListener("click", () => attempt(async () => {
    const { command, row } = await get(`${address()}/recipe`);
    $("recipe-command").value = command;
    $("recipe-row").value = row;
    $("recipe-box").showModal();
  }));
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", () => {
      const area = $(button.dataset.copy);
      area.select();
      attempt(() => copyText(area.value, button.textContent.replace("Copy ", "").replace(/^./, (c) => c.toUpperCase())));
    });
  }
}
