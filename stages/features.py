"""features: each plain view of each picture as a vector. images, quality -> features."""

import logging
from itertools import islice

from stages.core import backend, parallel, params
from stages.core.errors import run_stage
from stages.core.store import write_metrics
from stages.core.tables import FEATURES, IMAGES, ROW_GROUP
from stages.inputs import views
from stages.models import backbones

log = logging.getLogger(__name__)


def main(hospital: str) -> None:
    """Write data/features and metrics/features of one hospital."""
    rule = params.load("inputs", "features", "weights_dir")
    wanted = rule.features
    backend.use_one_thread_an_operation()
    network = backbones.load_extractor(
        wanted.backbone, wanted.size, wanted.layers, rule.weights_dir
    )
    n_views = n_features = 0
    embedded = parallel.show_progress(
        views.embed_pictures(network, hospital, rule.inputs, wanted.size),
        len(rule.inputs.white_balance) * IMAGES.count_rows(hospital),
        f"features: {hospital}",
    )
    rows = ({"image_id": i, "view": view, "vector": vector} for i, view, vector in embedded)
    with FEATURES.writer(hospital) as append:
        while group := list(islice(rows, ROW_GROUP)):
            append(group)
            n_views, n_features = n_views + len(group), len(group[0]["vector"])
    n_images = n_views // len(rule.inputs.white_balance)
    metrics = {
        "n_images": n_images,
        "n_views": n_views,
        "n_features": n_features,
        "backbone": wanted.backbone,
    }
    write_metrics("features", metrics, hospital)
    log.info("features: %s %d pictures, %d views of %d", hospital, n_images, n_views, n_features)


if __name__ == "__main__":
    run_stage(main, "hospital")
