// Elements are made here, and every text of the data becomes one as text.

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

function swatch(color) {
  const made = element("span", { class: "swatch" });
  made.style.background = color;
  return made;
}

// A labelled choice; options are pairs of a value and a text.
function choice(text, options, change) {
  const select = element("select", { onchange: () => change(select.value) });
  for (const [value, shown] of options) select.append(element("option", { value }, shown));
  return element("label", {}, text, select);
}

const DECIMALS = { sae_l0: 2, true_l0: 2, dead_latents: 1 };

function decimalsOf(metric) {
  return metric in DECIMALS ? DECIMALS[metric] : 4;
}

const MINUS = "\u2212";

function fixed(value, decimals) {
  const text = Math.abs(value).toLocaleString("en-US", {
    minimumFractionDigits: decimals,
    maximumFractionDigits: decimals,
  });
  return value < 0 && Number(text) !== 0 ? MINUS + text : text;
}

// A standard error has as many decimals as its first digit needs.
function errorText(error, decimals) {
  const needed = error > 0 ? Math.ceil(-Math.log10(error)) : 0;
  return fixed(error, Math.min(8, Math.max(decimals, needed)));
}

function wholeNumber(value) {
  return value.toLocaleString("en-US");
}

function l0Text(l0) {
  return l0 === null ? "none" : String(l0);
}

// The first of equal values, in their order.
function distinct(values) {
  return [...new Set(values)];
}
