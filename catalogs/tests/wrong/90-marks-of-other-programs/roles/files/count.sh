#!/bin/bash
{# Counts what there is. #}
a=(1 2 3)
echo ${#a[@]}
echo "this line is kept"
b=x; echo ${b#}
{% raw %}echo ${#a[@]}{% endraw %}
