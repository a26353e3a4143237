// Sorting, filtering, tooltips and the theme. The table and the charts are there without it.
'use strict';

const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const one = (selector, within = document) => within.querySelector(selector);

// --- theme: the system's, until somebody chooses -------------------------------------------------------------------
const root = document.documentElement;
const toggle = one('#theme');
const systemDark = matchMedia('(prefers-color-scheme: dark)');
const isDark = () => (root.dataset.theme ? root.dataset.theme === 'dark' : systemDark.matches);
const showTheme = () => toggle.setAttribute('aria-pressed', String(isDark()));
toggle.hidden = false;
toggle.addEventListener('click', () => {
  root.dataset.theme = isDark() ? 'light' : 'dark';
  showTheme();
});
systemDark.addEventListener('change', showTheme);
showTheme();

// --- sorting -------------------------------------------------------------------------------------------------------
const body = one('#rows tbody');
const rows = [...body.rows];
// '' marks a value that is not there; those rows stay last in both directions.
const textOf = (row, column) => row.cells[column].dataset.v ?? row.cells[column].firstChild.textContent;
function sortBy(heading) {
  const direction = heading.getAttribute('aria-sort') === 'ascending' ? 'descending' : 'ascending';
  const column = Number(heading.dataset.column);
  const compare = heading.classList.contains('t') ? (a, b) => a.localeCompare(b) : (a, b) => a - b;
  all('#rows th[aria-sort]').forEach((other) => other.removeAttribute('aria-sort'));
  heading.setAttribute('aria-sort', direction);
  const keyed = rows.map((row, index) => ({ row, index, value: textOf(row, column) }));
  keyed.sort((a, b) => {
    if (a.value === '' || b.value === '') return (a.value === '') - (b.value === '') || a.index - b.index;
    return (direction === 'ascending' ? 1 : -1) * compare(a.value, b.value) || a.index - b.index;
  });
  body.append(...keyed.map((entry) => entry.row));
}
all('#rows th[data-column]').forEach((heading) => one('button', heading).addEventListener('click', () => sortBy(heading)));

// --- filters: rows, and in each experiment the first group of charts that fits ---------------------------------------
const filters = one('#filters');
function applyFilters() {
  const wanted = all('select', filters).filter((select) => select.value !== '*');
  const fits = (element) =>
    wanted.every(({ name, value }) => !(name in element.dataset) || element.dataset[name] === value);
  rows.forEach((row) => (row.hidden = !fits(row)));
  const shown = rows.filter((row) => !row.hidden).length;
  one('#count').textContent = `${shown} of ${rows.length} row${rows.length === 1 ? '' : 's'}`;
  all('.card, .experiment').forEach((part) => (part.hidden = !fits(part)));
  all('.experiment').forEach((part) => {
    const plots = all('.plots:not(.always)', part);
    const first = plots.find(fits);
    plots.forEach((plot) => (plot.hidden = plot !== first));
    one('.nothing', part).hidden = first !== undefined;
  });
  all('[data-precision]:not(tr)').forEach((mark) => mark.classList.toggle('faded', !fits(mark)));
}
filters.hidden = false;
filters.addEventListener('change', applyFilters);
filters.addEventListener('reset', () => setTimeout(applyFilters));
filters.addEventListener('submit', (event) => event.preventDefault());
applyFilters();

// --- tooltips ------------------------------------------------------------------------------------------------------
const tip = one('#tip');
let current = null;
function place() {
  const at = current.getBoundingClientRect();
  const left = at.left + at.width / 2 - tip.offsetWidth / 2;
  const above = at.top - tip.offsetHeight - 8;
  tip.style.left = `${Math.max(8, Math.min(left, root.clientWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${above < 8 ? Math.min(at.bottom + 8, innerHeight - tip.offsetHeight - 8) : above}px`;
}
function showTip(mark) {
  current = mark;
  tip.hidden = mark === null;
  if (mark === null) return;
  tip.textContent = mark.dataset.tip || mark.getAttribute('aria-label');
  place();
}
const marked = (event) => event.target.closest?.('[data-tip]') ?? null;
for (const name of ['mouseover', 'focusin']) document.addEventListener(name, (event) => showTip(marked(event)));
document.addEventListener('focusout', () => showTip(null));
document.addEventListener('keydown', (event) => event.key === 'Escape' && showTip(null));
document.addEventListener('scroll', () => current && place(), true);

// --- paper shows what a screen discloses ---------------------------------------------------------------------------
addEventListener('beforeprint', () => all('details').forEach((part) => (part.open = true)));
