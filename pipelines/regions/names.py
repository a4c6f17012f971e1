"""A name that the regions' table shares with what reads it, without the imports of that table's maker."""

REVIEW_PROPOSER = "review"  # the proposer of boxes that reviewers drew
