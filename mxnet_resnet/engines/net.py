"""Stand-in until the one form of a trained net is merged."""

TrainedNet = object
