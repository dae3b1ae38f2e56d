"""What makes a module's input of files, settled: the config's keys, and defaults where they say nothing."""

from counterpoint.config.items import DEFAULT_SCALING, AudioConfig, ImageConfig, Scaling


def scaling_of(image: ImageConfig) -> Scaling:
    """How pixels become numbers."""
    default = DEFAULT_SCALING
    return Scaling(image.resampling or default.resampling, image.mean or default.mean, image.std or default.std)


def seconds_of(audio: AudioConfig) -> int | None:
    """The length of every clip, None for each clip's own."""
    return audio.seconds if isinstance(audio.seconds, int) else None
