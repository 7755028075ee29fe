"""Textual's themes: finetui's own, made from the palettes, and what its stylesheets need in all others."""

from collections.abc import Mapping

from textual.color import Color
from textual.theme import Theme

from finetui.tui.colours.depth import Depth
from finetui.tui.colours.palettes import ROLES, palette

# Variables of Textual's own stylesheets, and the roles that give them their colours.
_TEXTUAL = {
    "background-darken-1": "background",
    "block-cursor-background": "selection",
    "block-cursor-blurred-background": "panel",
    "block-cursor-blurred-foreground": "foreground",
    "block-cursor-foreground": "on-selection",
    "block-hover-background": "button-hover",
    "boost": "panel",
    "border": "accent",
    "border-blurred": "frame",
    "button-color-foreground": "foreground",
    "button-foreground": "foreground",
    "footer-background": "surface",
    "footer-description-foreground": "foreground",
    "footer-foreground": "foreground",
    "footer-key-foreground": "accent",
    "foreground-disabled": "disabled",
    "foreground-muted": "muted",
    "input-cursor-background": "foreground",
    "input-cursor-foreground": "background",
    "input-selection-background": "selection",
    "input-selection-foreground": "on-selection",
    "link-background-hover": "selection",
    "link-color": "accent",
    "link-color-hover": "on-selection",
    "panel-darken-1": "surface",
    "panel-lighten-1": "panel",
    "primary": "accent",
    "screen-selection-background": "selection",
    "screen-selection-foreground": "on-selection",
    "scrollbar": "frame",
    "scrollbar-active": "accent",
    "scrollbar-background": "background",
    "scrollbar-background-active": "background",
    "scrollbar-background-hover": "background",
    "scrollbar-corner-color": "background",
    "scrollbar-hover": "muted",
    "secondary": "muted",
    "surface-active": "field-focus",
    "text": "foreground",
    "text-accent": "accent",
    "text-disabled": "placeholder",
    "text-error": "error",
    "text-muted": "muted",
    "text-primary": "accent",
    "text-secondary": "muted",
    "text-success": "success",
    "text-warning": "warning",
}
# Roles that a theme of somebody else's has no colour for: which of its colours, how much of that (%), and upon which.
_BLENDS = {
    "focused": ("foreground", 4, "background"),
    "frame": ("foreground", 30, "background"),
    "muted": ("foreground", 65, "background"),
    "disabled": ("foreground", 45, "background"),
    "placeholder": ("foreground", 60, "background"),
    "on-accent": ("background", 100, "background"),
    "on-selection": ("foreground", 100, "background"),
    "selection": ("accent", 30, "background"),
    "button": ("foreground", 8, "panel"),
    "button-key": ("accent", 100, "background"),
    "button-hover": ("foreground", 16, "panel"),
    "button-off": ("surface", 100, "background"),
    "button-off-focus": ("foreground", 65, "background"),
    "button-focus": ("accent", 100, "background"),
    "chosen": ("foreground", 24, "panel"),
    "field": ("foreground", 4, "panel"),
    "field-focus": ("foreground", 12, "panel"),
    "train-band": ("train-curve", 25, "background"),
    "evaluation-band": ("evaluation-curve", 25, "background"),
    "third-band": ("third-curve", 25, "background"),
    "plot-axis": ("foreground", 55, "background"),
    "plot-mark": ("foreground", 40, "background"),
    "bar": ("accent", 80, "background"),
    "frozen": ("accent", 50, "foreground"),
}
_STEPS = {"right": ("success", (10, 20, 32)), "wrong": ("error", (12, 24, 38, 55, 75))}


def own_theme(depth: Depth, *, dark: bool) -> Theme:
    """Return finetui's theme for a terminal with so many colours, on dark or light ground."""
    colours = palette(depth, dark=dark)
    return Theme(
        name="finetui-dark" if dark else "finetui-light",
        dark=dark,
        primary=colours["accent"],
        secondary=colours["muted"],
        accent=colours["accent"],
        foreground=colours["foreground"],
        background=colours["background"],
        surface=colours["surface"],
        panel=colours["panel"],
        success=colours["success"],
        warning=colours["warning"],
        error=colours["error"],
        variables={**colours, **{variable: colours[role] for variable, role in _TEXTUAL.items()}},
    )


DARK, LIGHT = (own_theme("truecolor", dark=dark) for dark in (True, False))


def completed(variables: Mapping[str, str], *, dark: bool) -> dict[str, str]:
    """Return what finetui's stylesheets use beside the `variables` of a theme that is not finetui's own."""
    ours = palette("truecolor", dark=dark)
    found = {role: colour for role, colour in ours.items() if "-curve" in role or role.startswith("run-")}
    found |= {role: ours[role] for role in ("for", "against")}
    known = {name: Color.parse(colour) for name, colour in {**found, **variables}.items() if name in ROLES}

    def blend(name: str, percent: int, ground: str) -> Color:
        return known[ground].blend(known[name], percent / 100, alpha=1)

    for role, (name, percent, ground) in _BLENDS.items():
        known[role] = blend(name, percent, ground)
    for name, (colour, steps) in _STEPS.items():
        for step, percent in enumerate(steps, 1):
            known[f"{name}-{step}"] = blend(colour, percent, "background")
            known[f"on-{name}-{step}"] = known[f"{name}-{step}"].get_contrast_text(1)
    known["backdrop"] = known["background"].with_alpha(0.6)
    return {role: known[role].hex for role in ROLES if role not in variables}
