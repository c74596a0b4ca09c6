"""From files to results: pictures, folders and videos in, maps and drawings out."""
