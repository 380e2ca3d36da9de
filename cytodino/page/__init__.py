"""What every self-contained page here is made of: markup, charts as inline SVG, a style sheet."""
