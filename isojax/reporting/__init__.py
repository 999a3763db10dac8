"""What a run writes for people: metrics and figures."""

from isojax.reporting.figures import save_figures as save_figures
from isojax.reporting.figures import save_views as save_views
from isojax.reporting.history import History as History
