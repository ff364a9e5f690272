// Colour maps that keep their order for every kind of colour vision and in print.

/** @type {Record<string, string>} evenly spaced colours, interpolated */
const STOPS = {
  viridis: "440154 482475 414487 355f8d 2a788e 21918c 22a884 44bf70 7ad151 bddf26 fde725",
  cividis: "00224e 0c326e 35456c 4f576c 666970 7d7c78 948e77 aea371 c8b866 e5cf52 fee838",
  magma: "000004 140e36 3b0f70 641a80 8c2981 b73779 de4968 f7705c fe9f6d fecf92 fcfdbf",
  grey: "ffffff 000000",
};

export const COLOUR_MAPS = Object.keys(STOPS);

/** @type {Map<string, Uint32Array>} */
const tables = new Map();

/** @param {string} name @returns {Uint32Array} 256 colours as 0xAABBGGRR, the layout of ImageData */
export function colourTable(name) {
  const kept = tables.get(name);
  if (kept) return kept;
  const stops = (STOPS[name] ?? STOPS.viridis)
    .split(" ")
    .map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  const table = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    const [r, g, b] = [0, 1, 2].map((c) =>
      Math.round(stops[low][c] + (stops[low + 1][c] - stops[low][c]) * (at - low)),
    );
    table[i] = (0xff << 24) | (b << 16) | (g << 8) | r;
  }
  tables.set(name, table);
  return table;
}

const probe = document.createElement("i");

/**
 * The colour that a custom property stands for in the theme in use; the property itself only says `light-dark(…)`.
 * @param {string} name a CSS custom property, without dashes
 */
export function themeColour(name) {
  if (!probe.isConnected) document.head.append(probe);
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}
