"""The two themes: one accent colour, and plot colours that colour-blind people can tell apart.

The plot colours are from Okabe and Ito, "Color Universal Design" (2008): sky blue and orange on dark ground, blue
and vermillion, their darker siblings, on light ground.
"""

from textual.theme import Theme

DARK = Theme(
    name="finetui-dark",
    dark=True,
    primary="#56b4e9",
    secondary="#7f8c98",
    accent="#56b4e9",
    foreground="#d8dee6",
    background="#0f1419",
    surface="#161c23",
    panel="#202831",
    success="#2fb58c",
    warning="#e69f00",
    error="#e8705a",
    variables={
        "plot-1": "#56b4e9",
        "plot-2": "#e69f00",
        "plot-3": "#cc79a7",
        "muted": "#8794a2",
        "footer-key-foreground": "#56b4e9",
        "block-cursor-blurred-background": "#202831",
    },
)

LIGHT = Theme(
    name="finetui-light",
    dark=False,
    primary="#0072b2",
    secondary="#5d6b78",
    accent="#0072b2",
    foreground="#1d2731",
    background="#fbfcfd",
    surface="#f1f4f7",
    panel="#e3e9ee",
    success="#00795a",
    warning="#a35a00",
    error="#b3371f",
    variables={
        "plot-1": "#0072b2",
        "plot-2": "#d55e00",
        "plot-3": "#a2487c",
        "muted": "#5d6b78",
        "footer-key-foreground": "#0072b2",
        "block-cursor-blurred-background": "#e3e9ee",
    },
)
