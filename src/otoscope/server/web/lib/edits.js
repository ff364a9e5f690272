// Edits as they stand in the address: TARGET*OP*VALUE@FROM-TO, e.g. sae-2:30*scale*0@1.20-1.50.

/** @typedef {{ target: string, op: EditItem["op"], value: number, span: [number, number] | null }} EditDraft */

/**
 * What each operation means, the range of its slider and where it starts; `relative` ones count in the feature's maximum.
 */
export const OPS = {
  scale: { title: "multiply by", min: -4, max: 4, start: 0, relative: false },
  add: { title: "add", min: -2, max: 2, start: 1, relative: true },
  clamp: { title: "hold at", min: 0, max: 2, start: 1, relative: true },
  zero: { title: "switch off", min: 0, max: 0, start: 0, relative: false },
};

/** @param {string} text @returns {EditDraft | null} */
export function parseEdit(text) {
  const match = /^(.+)\*(zero|scale|add|clamp)\*(-?[\d.]+(?:e-?\d+)?)(?:@([\d.]+)-([\d.]+))?$/.exec(text);
  if (!match) return null;
  const [, target, op, value, from, to] = match;
  const span =
    from !== undefined && Number(from) < Number(to)
      ? /** @type {[number, number]} */ ([Number(from), Number(to)])
      : null;
  return { target, op: /** @type {EditItem["op"]} */ (op), value: Number(value) || 0, span };
}

/** The edit that shows a feature best: its highest value added everywhere. @param {FeatureRow} row @returns {EditDraft} */
export const firstEdit = (row) => ({ target: `${row.atlas}:${row.index}`, op: "add", value: row.max, span: null });

/** @param {EditDraft} edit */
export function editText({ target, op, value, span }) {
  return `${target}*${op}*${round(value)}${span ? `@${span[0].toFixed(2)}-${span[1].toFixed(2)}` : ""}`;
}

/** @param {number} value */
const round = (value) => Number(value.toPrecision(4));

/** @param {string} target */
export const isFeature = (target) => /:\d+$/.test(target);

/** @param {EditDraft} edit @returns {EditItem} */
export function editItem({ target, op, value, span }) {
  const units = /^(.+)\[([\d,\s]+)\]$/.exec(target);
  const what = isFeature(target)
    ? { feature: target }
    : units
      ? { site: units[1], units: units[2].split(",").map(Number) }
      : { site: target };
  return { ...what, op, value, ...(span ? { time_s: span } : {}) };
}

/** The same in Python. @param {ClipInfo} clip @param {EditDraft[]} edits @param {string} workspace */
export function asPython(clip, edits, workspace) {
  const quoted = /** @param {string} text */ (text) => JSON.stringify(text);
  const uploaded = clip.corpus === "uploads";
  const lines = edits.map(({ target, op, value, span }) => {
    const when = span ? `time_s=(${span[0].toFixed(2)}, ${span[1].toFixed(2)})` : "";
    const number = op === "zero" ? "" : String(round(value));
    const feature = /^(.+):(\d+)$/.exec(target);
    if (feature)
      return `    workspace.dictionary_of(${quoted(feature[1])}).feature(${feature[2]}).${op}(${[number, when].filter(Boolean).join(", ")}),`;
    const { site, units } = editItem({ target, op, value, span });
    const columns = units ? `units=(${units.join(", ")},)` : "";
    return `    oto.Edit.${op}(${[quoted(site ?? ""), number, columns, when].filter(Boolean).join(", ")}),`;
  });
  return [
    "import otoscope as oto",
    "",
    `workspace = oto.Workspace.open(${quoted(workspace)})`,
    "model = workspace.model()",
    uploaded
      ? `clip = oto.Clip.from_file("your-recording.wav")`
      : `clip = workspace.corpus(${quoted(clip.corpus)})[${quoted(clip.id)}]`,
    "edits = [",
    ...lines,
    "]",
    "print(model.transcribe(clip).text)",
    "print(model.transcribe(clip, edits=edits).text)",
  ].join("\n");
}
