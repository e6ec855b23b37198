"""How fast a bundle is. Needs torch only to compare with torch."""
