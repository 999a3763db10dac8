"""What a run writes for people: metrics and figures.

Not imported here is what draws: Matplotlib takes a third of a second, which a run
spends once its first step is on the device.
"""

from isojax.reporting.history import History as History
from isojax.reporting.options import read_options as read_options
from isojax.reporting.writers import Writers as Writers
from isojax.reporting.writers import check_packages as check_packages
from isojax.reporting.writers import open_writers as open_writers
from isojax.reporting.writers import write_accuracies as write_accuracies
