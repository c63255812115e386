"""What is anatomically wrong with a label map of teeth: Betti numbers, findings, report."""
