"""Evaluation of members, pools and detectors on labelled streams, some with known drifts."""
