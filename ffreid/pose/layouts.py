"""How the data sets lie on disk, in a line each, for errors; imports nothing."""

TREES = {
    "ycb": (
        "data/SSSS/FFFFFF-{color.png,depth.png,label.png,meta.mat}, data_syn/FFFFFF-…, "
        "models/<class>/points.xyz, dataset_config/{train,test}_data_list.txt or "
        "image_sets/{train,keyframe}.txt"
    ),
    "linemod": (
        "data/NN/{rgb,depth,mask}/FFFF.png with gt.yml, train.txt and test.txt in data/NN, "
        "models/obj_NN.ply, renders/<object>/*.pkl, fuse/<object>/*.pkl"
    ),
}
"""What is expected below a data set's own folder, by layout."""
