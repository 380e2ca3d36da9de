"""The page's style sheet: light, dark and print, without a request to anywhere.

Blue and vermilion stay apart in every common form of colour blindness (Okabe and Ito, Color
Universal Design, 2008); both are darkened on white and lightened on black to be read as text.
"""

__all__ = ["STYLE"]

_LIGHT = """
  --paper: #ffffff; --panel: #f5f6f8; --ink: #1b1f24; --soft: #59626e; --line: #dce0e6;
  --faint: #eef0f3; --bar: #9fb4c8; --good: #00629b; --bad: #b54600; --open: #6a6a6a;
  --bad-ground: #fdefe4; --shade: 0, 98, 155; color-scheme: light;
"""
_DARK = """
  --paper: #14171b; --panel: #1c2026; --ink: #e4e7eb; --soft: #9aa5b1; --line: #333a43;
  --faint: #22272e; --bar: #55697d; --good: #6cb8f0; --bad: #ff9a57; --open: #b9bec4;
  --bad-ground: #38251a; --shade: 108, 184, 240; color-scheme: dark;
"""

STYLE = (
    f":root {{{_LIGHT}}}\n"
    f"@media screen and (prefers-color-scheme: dark) {{ :root {{{_DARK}}} }}\n"
    """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif;
  font-variant-numeric: tabular-nums; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 28px 24px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -.01em; }
h2 { font-size: 20px; margin: 0 0 12px; letter-spacing: -.005em; }
h3 { font-size: 15px; margin: 26px 0 8px; }
p { margin: 0 0 10px; max-width: 76ch; }
a { color: inherit; text-decoration-color: var(--soft); text-underline-offset: 2px; }
section { margin-top: 44px; padding-top: 22px; border-top: 1px solid var(--line); }
.soft, figcaption, footer { color: var(--soft); }
.lead { font-size: 17px; margin-top: 14px; }
.note { border-left: 3px solid var(--soft); background: var(--panel); padding: 8px 14px; }
.alarm { border-left: 3px solid var(--bad); background: var(--bad-ground); padding: 8px 14px;
  margin: 14px 0; max-width: none; }
ul.reasons { border-left: 3px solid var(--open); background: var(--panel); margin: 0 0 14px;
  padding: 8px 14px 8px 32px; }
ul.reasons.failed { border-color: var(--bad); background: var(--bad-ground); }
abbr { text-decoration: none; }
.badge { display: inline-flex; align-items: center; gap: 6px; font-weight: 600;
  white-space: nowrap; }
.badge svg { width: 1.1em; height: 1.1em; flex: none; margin: -.1em 0; }
.badge { line-height: 1.4; }
.badge path { fill: none; stroke: var(--paper); stroke-width: 1.8; stroke-linecap: round;
  stroke-linejoin: round; }
.passed.badge { color: var(--good); } .failed.badge { color: var(--bad); }
.unproven.badge { color: var(--open); }
.badge circle, .badge rect { fill: currentColor; }
.unproven.badge circle { fill: none; stroke: currentColor; stroke-width: 1.5; }
.unproven.badge path { stroke: currentColor; stroke-width: 1.6; }
.tally { display: flex; flex-wrap: wrap; gap: 8px 28px; font-size: 19px; margin: 18px 0 6px; }
h2 .badge { font-size: 16px; margin-left: 10px; vertical-align: 1px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; color: var(--soft); font-weight: 500; font-size: 13px;
  vertical-align: bottom; }
th, td { padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line); }
td { vertical-align: top; }
.figure { text-align: right; white-space: nowrap; }
.figure small { display: block; white-space: normal; }
th:last-child, td:last-child { padding-right: 0; }
tr.beyond td { background: var(--bad-ground); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 5px 22px; margin: 0;
  font-size: 14px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.mono { font-family: ui-monospace, "SFMono-Regular", Menlo, "Liberation Mono", monospace;
  font-size: .88em; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(380px, 1fr));
  gap: 22px 36px; margin-top: 20px; }
figure { margin: 0; break-inside: avoid; }
figure h3 { margin: 0 0 2px; }
figcaption { font-size: 13px; line-height: 1.4; margin-top: 6px; }
.charts + p { margin-top: 22px; }
.limits { max-width: 860px; }
svg.chart { width: 100%; height: auto; display: block; }
.chart text { fill: var(--soft); font-size: 11.5px; }
.chart .value { fill: var(--ink); } .chart .said { fill: var(--bad); stroke: var(--paper);
  stroke-width: 4px; paint-order: stroke; }
.chart .grid { stroke: var(--line); stroke-width: 1; }
.chart .axis { stroke: var(--soft); stroke-width: 1; }
.chart .limit { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 5 3; }
.chart .bar { fill: var(--bar); } .chart .within { fill: var(--good); }
.chart .beyond { fill: var(--bad); }
.chart .dots { stroke: var(--bar); stroke-width: 3; stroke-linecap: round; fill: none; }
.chart .flips { stroke: var(--bad); stroke-width: 1.8; fill: none; }
.chart .curve { stroke: var(--good); stroke-width: 2; fill: none; stroke-linejoin: round; }
.chart .curve.raw { stroke: var(--bar); } .chart .curve.critical { stroke: var(--bad); }
.chart .diagonal { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 3 3; }
.chart .whisker { stroke: var(--ink); stroke-width: 1.2; } .chart .mark { fill: var(--ink); }
.chart .few { fill: var(--line); }
.charts.single { max-width: 560px; }
.picture { width: 100%; max-width: 860px; height: auto; display: block; }
table.flips { width: auto; table-layout: fixed; font-size: 12px; }
table.flips th, table.flips td { padding: 0; width: 34px; height: 26px; text-align: center;
  vertical-align: middle; border: 1px solid var(--faint); }
table.flips th { font-size: 11px; border: 0; }
table.flips tbody th { padding-right: 8px; text-align: right; width: 48px; }
table.flips th.risky { color: var(--bad); }
table.flips .same { background: var(--faint); }
table.flips .some { font-weight: 600; background: rgba(var(--shade), .22); }
table.flips .critical { box-shadow: inset 0 0 0 1px var(--bad-ground); }
table.flips .some.critical { background: var(--bad-ground);
  box-shadow: inset 0 0 0 2px var(--bad); color: var(--bad); }
.cells { display: grid; grid-template-columns: repeat(auto-fill, minmax(322px, 1fr)); gap: 12px; }
.cell { display: grid; grid-template-columns: 128px 1fr; gap: 12px; background: var(--panel);
  padding: 10px; border-radius: 4px; break-inside: avoid; font-size: 13px; line-height: 1.35; }
.cell.flipped { box-shadow: inset 0 0 0 1.5px var(--bad); }
.cell > svg { width: 128px; height: 128px; display: block; background: var(--faint); }
.cell .who { color: var(--soft); font-size: 12px; margin: 5px 0 1px; }
.cell .answer { display: grid; grid-template-columns: 34px 44px 1fr; align-items: center;
  gap: 4px; }
.cell .answer span:nth-child(2) { text-align: right; }
.cell .top { font-weight: 600; }
.meter { height: 6px; background: var(--line); } .meter i { display: block; height: 6px;
  background: var(--good); }
.cell.flipped .candidate .meter i { background: var(--bad); }
.cell .said { color: var(--bad); font-weight: 600; }
.cell .foot div:first-child { color: var(--ink); }
.cell .foot { grid-column: 1 / -1; color: var(--soft); overflow-wrap: anywhere; }
details { margin-top: 26px; } summary { cursor: pointer; font-weight: 600; margin-bottom: 8px; }
details p { color: var(--soft); }
.store { position: absolute; width: 0; height: 0; overflow: hidden; }
footer { margin-top: 52px; padding-top: 14px; border-top: 1px solid var(--line); font-size: 13px; }
@media (max-width: 640px) {
  main { padding: 22px 16px; } dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 6px; }
  .charts { grid-template-columns: 1fr; }
}
@media print {
  @page { margin: 14mm 12mm; }
  body { font-size: 10.5pt; } main { max-width: none; padding: 0; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  section.variant { break-before: page; border-top: 0; } h2, h3 { break-after: avoid; }
  details::details-content { content-visibility: visible; height: auto; }
  tr { break-inside: avoid; } a { text-decoration: none; }
  .charts { grid-template-columns: 1fr 1fr; } .scroll { overflow: visible; }
  .cells { grid-template-columns: 1fr 1fr; } table.flips th, table.flips td { width: 26px; }
}
"""
)
