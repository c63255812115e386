"""How good a result is and how it looks: overlap with a reference, the preview picture and the report page."""
