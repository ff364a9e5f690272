// The table of features, in files of a few thousand rows, best F1 first: only what is looked at is fetched.

/** @typedef {{ feature: number, label: number, f1: number, f1_low: number, f1_high: number, density: number, max: number }} Row */

const AT_ONCE = 6;
/** @type {Record<string, (buffer: ArrayBuffer, offset: number, n: number) => ArrayLike<number>>} */
const VIEWS = {
  "<u4": (buffer, offset, n) => new Uint32Array(buffer, offset, n),
  "<i4": (buffer, offset, n) => new Int32Array(buffer, offset, n),
  "<f4": (buffer, offset, n) => new Float32Array(buffer, offset, n),
};

export class Rows {
  /** @type {Map<number, Promise<Record<string, ArrayLike<number>>>>} */ #parts = new Map();

  /** @param {import("./api.js").Site} site */
  constructor(site) {
    this.site = site;
    this.n_parts = Math.ceil(site.n_features / site.rows);
  }

  /** @param {number} part */
  #load(part) {
    const kept = this.#parts.get(part);
    if (kept) return kept;
    const url = `data/rows/${String(part).padStart(5, "0")}.bin`;
    const loading = fetch(url).then(async (answer) => {
      if (!answer.ok) throw new Error(`${url} could not be loaded; was the whole folder copied?`);
      const buffer = await answer.arrayBuffer();
      const { columns, rows, n_features } = this.site;
      const n = Math.min(rows, n_features - part * rows);
      return Object.fromEntries(columns.map(([name, kind], i) => [name, VIEWS[kind](buffer, i * 4 * n, n)]));
    });
    this.#parts.set(part, loading);
    loading.catch(() => this.#parts.delete(part));
    return loading;
  }

  /** Rows by place in the order of F1. @param {ArrayLike<number>} places @returns {Promise<Row[]>} */
  async at(places) {
    const wanted = Array.from(places);
    const { rows } = this.site;
    const parts = new Map(
      await Promise.all(
        [...new Set(wanted.map((place) => Math.floor(place / rows)))].map(
          async (part) => /** @type {const} */ ([part, await this.#load(part)]),
        ),
      ),
    );
    return wanted.map((place) => {
      const columns = parts.get(Math.floor(place / rows)) ?? {};
      return /** @type {Row} */ (
        Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, values[place % rows]]))
      );
    });
  }

  /**
   * Whole columns, for filters and orders that need every row.
   * @param {(share: number) => void} progress
   * @returns {Promise<Record<string, Float64Array>>}
   */
  async columns(progress) {
    const { columns, rows, n_features } = this.site;
    const whole = Object.fromEntries(columns.map(([name]) => [name, new Float64Array(n_features)]));
    let next = 0;
    let done = 0;
    const worker = async () => {
      while (next < this.n_parts) {
        const part = next++;
        const found = await this.#load(part);
        for (const [name] of columns) whole[name].set(/** @type {any} */ (found[name]), part * rows);
        progress(++done / this.n_parts);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    return whole;
  }
}
