"""Objects as boxes with masks in regions that a first stage proposes."""
