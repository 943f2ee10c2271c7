"""What all groups of settings have in common: how they are checked, and shared kinds of values."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
BackboneName = Literal[
    "efficientnet_lite0",
    "efficientnetb0", "efficientnetb1", "efficientnetb2", "efficientnetb3",
    "efficientnetb4", "efficientnetb5", "efficientnetb6", "efficientnetb7",
    "vgg16", "vgg19", "resnet50", "resnet101", "resnet152", "densenet121", "inceptionv3",
    "xception", "mobilenetv2", "nasnetmobile", "nasnetlarge", "convnexttiny",
    "vit_b16", "vit_b32",
]  # fmt: skip


class Group(BaseModel):
    """One group of params.yaml: frozen, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
