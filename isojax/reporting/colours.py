"""Okabe and Ito's colours, which colour-blind readers tell apart."""

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
