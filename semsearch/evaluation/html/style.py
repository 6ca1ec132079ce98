"""The style of the page: system fonts, white space, one accent colour, light and dark."""

from __future__ import annotations

from semsearch.evaluation.html.shapes import DARK, LIGHT, Role


def style() -> str:
    """The page's style sheet. It names no address, so that nothing is ever loaded."""
    roles = "".join(f".{role}{{color:var(--{role})}}" for role in LIGHT)
    return (
        f":root{{color-scheme:light dark;{_variables(LIGHT)}}}"
        f"@media (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}"
        f"{_RULES}{roles}"
    )


def _variables(palette: dict[Role, str]) -> str:
    return "".join(f"--{role}:{colour};" for role, colour in palette.items())


_RULES = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:69rem;padding:3.5rem 1.5rem 5rem;background:var(--paper);
color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
font-variant-numeric:tabular-nums;overflow-wrap:break-word}
h1{font-size:2.1rem;line-height:1.15;font-weight:650;letter-spacing:-.015em;margin:.2rem 0 .5rem}
h2{font-size:1.2rem;font-weight:650;margin:3.5rem 0 .6rem}
h3{font-size:1rem;font-weight:600;margin:0}
p{margin:.5rem 0;max-width:44rem}
.kicker,.about,figcaption,.note{color:var(--muted);font-size:.875rem}
.kicker{margin:0;letter-spacing:.02em}
.lead{font-size:1.125rem;margin-top:1.75rem}
.number{color:var(--accent);font-weight:650}
.wide{overflow-x:auto;margin:1rem -1.5rem 0;padding:0 1.5rem}
table{border-collapse:collapse;font-size:.875rem;line-height:1.35;white-space:nowrap}
th,td{text-align:right;padding:.4rem 0 .4rem 1.25rem;vertical-align:baseline}
th:first-child,td:first-child{padding-left:0}
thead th{font-weight:500;color:var(--muted);border-bottom:1px solid var(--muted)}
tbody td,tbody th{border-bottom:1px solid var(--rule)}
tbody th{font-weight:400}
.word{text-align:left}
td small{display:block;color:var(--muted);font-size:.75rem}
.best{font-weight:650}
.best small{font-weight:400}
.first th{color:var(--accent);font-weight:650}
.whisker{vertical-align:top;padding-top:.3rem}
.whisker svg.plot{width:8rem;height:1.4rem}
.scale{display:flex;justify-content:space-between;font-size:.75rem}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));
gap:2rem 2.5rem;margin:1.25rem 0 0}
figure{margin:0}
svg.plot{display:block;width:100%;height:auto;overflow:visible}
svg text{font-family:inherit}
figcaption{margin-top:.4rem;line-height:1.45}
details{border-bottom:1px solid var(--rule)}
summary{cursor:pointer;padding:.6rem 0;display:flex;gap:1rem;align-items:baseline;list-style:none}
summary::-webkit-details-marker{display:none}
summary::before{content:"+";color:var(--muted);flex:none;width:.7rem}
details[open]>summary::before{content:"\\2212"}
summary .value{flex:none;width:3rem}
summary .query{font-weight:500}
summary:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.inside{padding:0 0 1.5rem 1.7rem}
.inside h3{font-size:.875rem;color:var(--muted);font-weight:500;margin:1rem 0 .3rem}
ol.hits{list-style:none;margin:0;padding:0}
.hits li{display:grid;grid-template-columns:4.5rem 1fr;column-gap:1rem;padding:.35rem 0}
.hits .rank{color:var(--muted);font-size:.875rem;text-align:right}
.hits .grade{font-size:.75rem;color:var(--muted);margin-left:.6rem;white-space:nowrap}
.hits .relevant{color:var(--accent);font-weight:600}
.hits b{font-weight:600;font-size:.9375rem}
.hits p{margin:0;font-size:.875rem;color:var(--muted)}
dl{display:grid;grid-template-columns:minmax(8rem,auto) 1fr;gap:.35rem 1.5rem;margin:1rem 0 0;
font-size:.875rem}
dt{color:var(--muted)}
dd{margin:0;max-width:44rem}
dd small{display:block;color:var(--muted);font-size:.8125rem}
@media (max-width:36rem){
body{padding:2rem 1.1rem 3rem}
.wide{margin-left:-1.1rem;margin-right:-1.1rem;padding:0 1.1rem}
h1{font-size:1.7rem}h2{margin-top:2.5rem}.lead{font-size:1.05rem}
dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.6rem}
.inside{padding-left:0}.hits li{grid-template-columns:2.6rem 1fr;column-gap:.7rem}
}
@media print{body{max-width:none;padding:0}details,figure,tr{break-inside:avoid}}
"""
