"""features: each view of each picture as a vector. images, quality -> features."""

import logging

from stages.core import backbones, params, views
from stages.core.errors import run_stage
from stages.core.store import write_metrics
from stages.core.tables import FEATURES

log = logging.getLogger(__name__)


def main(hospital: str) -> None:
    """Write data/features and metrics/features of one hospital."""
    rule = params.load("inputs", "features", "seed", "weights_dir")
    wanted = rule.features
    network = backbones.load_extractor(
        wanted.backbone, wanted.size, wanted.layers, rule.weights_dir
    )
    n_views = n_features = 0
    with FEATURES.writer(hospital) as append:
        for image_ids, names, pixels in views.gather(views.prepare_ahead(hospital, rule)):
            vectors = views.embed(network, pixels)
            rows = zip(image_ids, names, vectors, strict=True)
            append([{"image_id": i, "view": v, "vector": vector} for i, v, vector in rows])
            n_views, n_features = n_views + len(names), vectors.shape[1]
    n_images = n_views // views.count_views(rule)
    metrics = {
        "n_images": n_images,
        "n_views": n_views,
        "n_features": n_features,
        "backbone": rule.features.backbone,
    }
    write_metrics("features", metrics, hospital)
    log.info("features: %s %d pictures, %d views of %d", hospital, n_images, n_views, n_features)


if __name__ == "__main__":
    run_stage(main, "hospital")
