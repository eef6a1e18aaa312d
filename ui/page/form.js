// The form's fields, drawn from what the job records say of them.

const ENDINGS = { ".png": "PNG", ".jpg": "JPEG", ".webp": "WebP", ".tif": "TIFF" };

function control(field) {
  if (field.control === "choice") {
    const select = document.createElement("select");
    for (const choice of field.choices) select.add(new Option(choice, choice, false, choice === field.default));
    return select;
  }
  if (field.name === "prompt") return Object.assign(document.createElement("textarea"), { rows: 2 });
  const input = document.createElement("input");
  if (field.control === "boolean") return Object.assign(input, { type: "checkbox", checked: Boolean(field.default) });
  if (field.control === "text") return Object.assign(input, { type: "text" });
  if (field.control === "extent") return Object.assign(input, { type: "text", pattern: "\\d+(\\.\\d+)?%|\\d+" });
  Object.assign(input, { type: "number", step: field.control === "integer" ? "1" : "any" });
  for (const [limit, name] of [["minimum", "min"], ["maximum", "max"]]) if (limit in field) input[name] = field[limit];
  return input;
}

/** What a field says once its last entry, WEIGHTS=PICTURE:SCALE, is shown another picture; a reference may be just the
 * picture. */
function showing(said, picture, reference) {
  const entries = said.split(";");
  const [, weights, equals, , scale] = /^\s*([^=]*?)(=(.*?))?(:[\d.]+)?\s*$/.exec(entries.pop());
  const alone = reference && !equals && !/\/|\.safetensors$/.test(weights);
  return [...entries, `${alone ? "" : `${weights}=`}${picture}${scale ?? ""}`].join(";");
}

export class Form {
  /** Draws itself into two boxes: what stands in view, and what stands under "More". */
  constructor(action, fields, main, more, send) {
    this.action = action;
    this.send = send; // a file to the server, for what it is called there
    this.fields = fields;
    this.controls = new Map();
    this.boxes = [main, more].map((parent) => parent.appendChild(document.createElement("div")));
    for (const box of this.boxes) box.className = "grid";
    [main, more] = this.boxes;
    for (const field of fields) (field.more ? more : main).append(this.drawn(field));
    this.fill({});
    this.ending = document.createElement("select");
    for (const [ending, name] of Object.entries(ENDINGS)) this.ending.add(new Option(name, ending));
    more.append(this.labelled("Save as", this.ending, "The kind of file that is written."));
  }

  drawn(field) {
    const input = control(field);
    input.name = field.name;
    const unset = field.unset.length > 24 ? "automatic" : field.unset;
    if (field.name === "prompt") input.placeholder = field.help;
    else if (!["boolean", "choice"].includes(field.control)) input.placeholder = field.default ?? unset;
    this.controls.set(field.name, input);
    const wide = field.control === "text";
    const help = field.unset ? `${field.help} Left empty: ${field.unset.replaceAll("--", "")}.` : field.help;
    const box = this.labelled(field.label, input, help.replaceAll("--", ""), wide);
    if (field.control === "boolean") box.classList.add("check");
    if (field.picture) box.append(this.chooser(field, input));
    return box;
  }

  /** A button that sends a picture and writes its name into a field. */
  chooser(field, input) {
    const file = Object.assign(document.createElement("input"), { type: "file", accept: "image/*", hidden: true });
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Picture…" });
    button.ariaLabel = `Picture for ${field.label.toLowerCase()}`;
    button.addEventListener("click", () => file.click());
    file.addEventListener("change", async () => {
      const sent = file.files.length && await this.send(file.files[0]);
      if (sent) input.value = showing(input.value, sent.name, field.name === "reference");
      file.value = "";
    });
    const both = document.createElement("span");
    both.append(button, file);
    return both;
  }

  labelled(name, input, help, wide = false) {
    const box = document.createElement("div");
    box.className = wide ? "field wide" : "field";
    const label = document.createElement("label");
    input.id = `${this.action}-${input.name || name.replace(" ", "-").toLowerCase()}`;
    label.htmlFor = input.id;
    label.textContent = name;
    box.title = help;
    if (input.type === "checkbox") box.append(input, label);
    else box.append(label, input);
    return box;
  }

  /** Names to choose from while typing. */
  offer(name, choices) {
    const input = this.controls.get(name);
    if (!input) return;
    let list = document.getElementById(`${input.id}-list`);
    if (!list) {
      list = Object.assign(document.createElement("datalist"), { id: `${input.id}-list` });
      input.after(list);
      input.setAttribute("list", list.id);
    }
    list.replaceChildren(...choices.map((choice) => new Option(choice, choice)));
  }

  set shown(shown) {
    for (const box of this.boxes) box.hidden = !shown;
  }

  get(name) {
    return this.controls.get(name)?.value ?? "";
  }

  set(name, value) {
    this.controls.get(name).value = value;
  }

  /** What was filled in; fields left as they are say nothing. */
  filled() {
    const filled = {};
    for (const field of this.fields) {
      const input = this.controls.get(field.name);
      if (field.control === "boolean") {
        if (input.checked !== Boolean(field.default)) filled[field.name] = input.checked;
      } else if (input.value !== "" && input.value !== field.default) filled[field.name] = input.value;
    }
    return filled;
  }

  /** Bring fields back; those that are not named go to their defaults. */
  fill(values) {
    for (const field of this.fields) {
      const input = this.controls.get(field.name);
      const value = values[field.name];
      if (field.control === "boolean") input.checked = value ?? Boolean(field.default);
      else if (field.control === "choice") input.value = value ?? field.default;
      else input.value = value ?? (field.name === "model" ? field.default : "");
    }
  }

  valid() {
    const wrong = [...this.controls.values()].find((input) => !input.checkValidity());
    if (wrong) {
      wrong.closest("details")?.setAttribute("open", "");
      wrong.reportValidity();
    }
    return !wrong;
  }
}
