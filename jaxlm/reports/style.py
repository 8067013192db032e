"""The style of the page: light, dark or on paper, no file beside it."""

STYLE = """\
:root {
  color-scheme: light dark;
  --ink: #1d2430; --soft: #596273; --page: #ffffff; --panel: #f5f6f8;
  --grid: #dfe3e8; --mark: #ffe9a8; --accent: #2f6fdb;
  --series-1: #2f6fdb; --series-2: #e07a1f; --series-3: #2a9d6e;
  --series-4: #b04fc0; --series-5: #8a6d3b; --series-6: #d14b5a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e7ec; --soft: #9aa4b2; --page: #14171c; --panel: #1d2128;
    --grid: #333a44; --mark: #6b5518; --accent: #6ea0f5;
    --series-1: #6ea0f5; --series-2: #f0984a; --series-3: #4fc296;
    --series-4: #cc82d8; --series-5: #c0a06a; --series-6: #ec7a86;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 52rem;
  background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
header { border-bottom: 3px solid var(--accent); margin-bottom: 2rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; }
header p { margin: 0 0 1rem; color: var(--soft); }
main { display: grid; grid-template-columns: 1fr 1fr; column-gap: 1.6rem; }
section { margin: 0 0 2.4rem; grid-column: 1 / -1; min-width: 0; }
section.half { grid-column: auto; }
h2 { font-size: 1.2rem; margin: 0 0 .7rem; }
p { margin: 0 0 .8rem; }
.note, figcaption, footer { color: var(--soft); font-size: .875rem; }
.note { margin: .5rem 0 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .94rem; }
th, td { padding: .42rem .7rem; text-align: left; vertical-align: baseline; }
thead th { border-bottom: 2px solid var(--grid); color: var(--soft);
  font-weight: 600; }
tbody th { font-weight: 500; }
tbody tr { border-bottom: 1px solid var(--grid); }
.number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
figure { margin: 0; }
figure svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font-family: system-ui, -apple-system, "Segoe UI", Roboto,
  sans-serif; }
figcaption { margin-top: .4rem; }
.facts { margin: 0; display: grid; gap: 0 2rem;
  grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); }
.facts div { display: flex; justify-content: space-between; gap: 1rem;
  border-bottom: 1px solid var(--grid); padding: .32rem 0;
  font-size: .94rem; }
.facts dt { color: var(--soft); }
.facts dd { margin: 0; text-align: right; overflow-wrap: anywhere;
  font-variant-numeric: tabular-nums; }
.examples { list-style: none; margin: 0; padding: 0; }
.examples > li { padding: .9rem 1rem .8rem; margin: 0 0 .8rem;
  background: var(--panel); border-radius: .5rem; break-inside: avoid; }
mark { background: var(--mark); color: inherit; padding: 0 .3em;
  border-radius: .25em; }
.guesses { list-style: none; margin: 0; padding: 0; display: flex;
  flex-wrap: wrap; gap: .3rem .9rem; }
.guesses li { flex: 0 0 8rem; display: flex; gap: .6rem;
  justify-content: space-between; font-size: .875rem; padding-bottom: .2rem;
  background: linear-gradient(var(--series-1), var(--series-1)) 0 100% /
  var(--share) 2px no-repeat; border-bottom: 1px solid var(--grid); }
.guesses .right { font-weight: 700; }
summary { cursor: pointer; color: var(--accent); }
pre { background: var(--panel); border-radius: .5rem; padding: .9rem 1rem;
  overflow-x: auto; font: .8rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas,
  monospace; }
@media (max-width: 38rem) { section.half { grid-column: 1 / -1; } }
footer { border-top: 1px solid var(--grid); padding-top: .8rem; }
@media print {
  :root { color-scheme: light; }
  body { max-width: none; padding: 0; font-size: 11pt; }
  section, figure, tr { break-inside: avoid; }
  h2 { break-after: avoid; }
  pre { white-space: pre-wrap; }
}
"""
