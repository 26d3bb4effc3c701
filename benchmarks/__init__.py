"""``make bench``: our filesystems and those of other libraries, all mounted at once and measured in turn.

Times of this kind drift by tens of percent within minutes, so only times of the same moment are compared: in short rounds every
system does every operation, and what is reported is the median of the ratios within a round.
"""
