// The look of the HTML report. Trade-off: system fonts and plain CSS, so that the file stands alone.

export const STYLE = `
:root {
  --page: #f6f7f9; --card: #ffffff; --text: #1a1e26; --quiet: #5b6472; --grid: #e7e9ee; --axis: #aab1bd;
  --read: #1f6fd6; --write: #c25e00; --mark: #3c4350;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #13151a; --card: #1b1e25; --text: #e7e9ee; --quiet: #9ba4b3; --grid: #2b3039; --axis: #545c6a;
    --read: #6aa9ff; --write: #f09a4a; --mark: #c3c9d4;
  }
}
* { box-sizing: border-box; margin: 0; }
body { background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 980px; margin: 0 auto; padding: 32px 20px 48px; display: grid; gap: 16px; }
h1 { font-size: 24px; line-height: 1.25; }
h2 { font-size: 16px; }
.quiet { color: var(--quiet); font-size: 13px; }
section, .tile { background: var(--card); border: 1px solid var(--grid); border-radius: 10px; padding: 16px; }
section { min-width: 0; overflow-x: auto; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 12px; }
.tile { box-shadow: inset 0 3px 0 var(--hue); }
.tile dt { color: var(--quiet); font-size: 13px; }
.tile dd:nth-of-type(1) { font-size: 26px; font-weight: 600; line-height: 1.3; }
.read { --hue: var(--read); }
.write { --hue: var(--write); }
svg { display: block; width: 100%; min-width: 600px; height: auto; margin-top: 10px; font: 12px system-ui, sans-serif; }
svg text { fill: var(--quiet); }
svg text.mark { fill: var(--mark); paint-order: stroke; stroke: var(--card); stroke-width: 4px; }
.grid { stroke: var(--grid); }
.axis, line.tick { stroke: var(--axis); }
.line { fill: none; stroke: var(--hue); stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.area { fill: var(--hue); opacity: 0.12; }
.bar, .dot { fill: var(--hue); }
.mark { stroke: var(--mark); }
line.mark { stroke-dasharray: 3 3; opacity: 0.7; }
.shade { fill: var(--grid); opacity: 0.6; }
.hit { fill: transparent; }
.guide { stroke: var(--axis); opacity: 0; }
.column:hover .guide { opacity: 1; }
.column:hover .bar { opacity: 0.7; }
.column:hover .hit { fill: var(--grid); fill-opacity: 0.5; }
.legend { display: flex; gap: 14px; align-items: center; font-size: 13px; margin-top: 8px; }
.key { display: inline-block; width: 14px; height: 3px; border-radius: 2px; background: var(--hue); margin-right: -6px; }
.wide { overflow-x: auto; margin-top: 12px; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 8px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--grid); }
thead th { color: var(--quiet); font-weight: 500; }
th[scope="row"] { text-align: left; font-weight: 500; }
.settings { display: grid; grid-template-columns: repeat(auto-fit, minmax(280px, 1fr)); gap: 4px 24px; margin-top: 10px; font-size: 13px; }
.settings div { display: flex; gap: 8px; border-bottom: 1px solid var(--grid); padding: 3px 0; }
.settings dt { color: var(--quiet); flex: 0 0 96px; }
.settings dd { overflow-wrap: anywhere; }
@media print { body { background: none; } section, .tile { break-inside: avoid; } }
`
