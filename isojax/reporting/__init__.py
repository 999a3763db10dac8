"""What a run writes for people: metrics and figures."""

from isojax.reporting.figures import save_figures as save_figures
from isojax.reporting.figures import save_views as save_views
from isojax.reporting.history import History as History
from isojax.reporting.options import read_options as read_options
from isojax.reporting.writers import Writers as Writers
from isojax.reporting.writers import check_packages as check_packages
from isojax.reporting.writers import open_writers as open_writers
