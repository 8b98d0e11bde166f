"""Where a browser should land: the newest sweep of a store."""

from __future__ import annotations

from segsweep.errors import EnvironmentProblem
from segsweep.redaction import without_passwords
from segsweep.tracking import views
from segsweep.tracking.failures import first_line
from segsweep.tracking.store import open_client, store_errors
from segsweep.tracking.trial_runs import RUN_KIND


def landing_page(tracking_uri: str) -> str:
    """The view of the newest sweep, relative to the server's address; empty if the store holds no sweep.

    Raises:
        EnvironmentProblem: If the store cannot be opened; says why.
    """
    try:
        client = open_client(tracking_uri)
        experiments = [item.experiment_id for item in client.search_experiments()]
        newest = client.search_runs(
            experiments,
            filter_string=f"tags.`{RUN_KIND}` = 'sweep'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
    except store_errors() as error:
        where = without_passwords(tracking_uri)
        raise EnvironmentProblem(f"cannot open the MLflow store {where}: {first_line(error)}") from error
    return views.relative_view_url(newest[0].info.experiment_id) if newest else ""
