"""Evaluation of members, pools and detectors on streams whose truth is known or arrives late."""
