// How features and classes are called.

/** @param {import("./api.js").Site} site @param {number} feature @returns {string} units have a feature for either sign */
export const unitOf = ({ n_units }, feature) =>
  n_units === null ? String(feature) : feature < n_units ? String(feature) : `${feature - n_units}−`;

/** @param {import("./api.js").Site} site */
export const classesByNumber = (site) => new Map(site.classes.map((each) => [each.number, each]));

/**
 * Classes that a visitor may mean: `/m/` a phone, otherwise the class of that name, otherwise those that contain it.
 * @param {import("./api.js").Site} site @param {string} text
 */
export function classesNamed(site, text) {
  const phone = /^\/(.+)\/$/.exec(text);
  const wanted = (phone ? phone[1] : text).toLowerCase();
  const open = phone ? site.classes.filter(({ kind }) => kind === "phone") : site.classes;
  const names = open.map((each) => ({ each, name: each.label.replaceAll("_", " ").toLowerCase() }));
  const same = names.filter(({ each, name }) => name === wanted || each.label.toLowerCase() === wanted);
  const near = same.length || phone ? same : names.filter(({ name, each }) => name.includes(wanted) || each.kind.replaceAll("_", " ") === wanted);
  return near.map(({ each }) => each);
}
